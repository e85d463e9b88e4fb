// SPDX-License-Identifier: BSL-1.0
//
// Memory, text and printf, as far as the runtime and the examples use them.
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "system.hpp"

extern "C" {

void* memcpy(void* __restrict to, void const* __restrict from, std::size_t n) {
  auto* d = static_cast<unsigned char*>(to);
  auto const* s = static_cast<unsigned char const*>(from);
  for (; n >= 8; n -= 8, d += 8, s += 8) {
    std::uint64_t word;
    __builtin_memcpy(&word, s, 8);
    __builtin_memcpy(d, &word, 8);
  }
  while (n-- != 0) *d++ = *s++;
  return to;
}
void* memmove(void* to, void const* from, std::size_t n) {
  auto* d = static_cast<unsigned char*>(to);
  auto const* s = static_cast<unsigned char const*>(from);
  if (d <= s || d >= s + n) return memcpy(to, from, n);
  while (n-- != 0) d[n] = s[n];
  return to;
}
void* memset(void* to, int value, std::size_t n) {
  auto* d = static_cast<unsigned char*>(to);
  while (n-- != 0) *d++ = static_cast<unsigned char>(value);
  return to;
}
int memcmp(void const* a, void const* b, std::size_t n) {
  auto const* x = static_cast<unsigned char const*>(a);
  auto const* y = static_cast<unsigned char const*>(b);
  for (; n-- != 0; ++x, ++y)
    if (*x != *y) return *x - *y;
  return 0;
}
// The header has overloads of this name.
void* find_byte(void const* text, int value, std::size_t n) asm("memchr");
void* find_byte(void const* text, int value, std::size_t n) {
  auto const* p = static_cast<unsigned char const*>(text);
  for (; n-- != 0; ++p)
    if (*p == static_cast<unsigned char>(value))
      return const_cast<unsigned char*>(p);
  return nullptr;
}
std::size_t strlen(char const* text) {
  std::size_t n = 0;
  while (text[n] != 0) ++n;
  return n;
}
// As memchr.
char* find_text(char const* in, char const* what) asm("strstr");
char* find_text(char const* in, char const* what) {
  std::size_t const n = strlen(what);
  for (; *in != 0 || n == 0; ++in)
    if (memcmp(in, what, strnlen(in, n)) == 0 && strnlen(in, n) == n)
      return const_cast<char*>(in);
  return nullptr;
}
std::size_t strnlen(char const* text, std::size_t most) {
  std::size_t n = 0;
  while (n < most && text[n] != 0) ++n;
  return n;
}
int strcmp(char const* a, char const* b) {
  for (; *a != 0 && *a == *b; ++a, ++b) {
  }
  return static_cast<unsigned char>(*a) - static_cast<unsigned char>(*b);
}
int strncmp(char const* a, char const* b, std::size_t n) {
  for (; n != 0 && *a != 0 && *a == *b; ++a, ++b, --n) {
  }
  return n == 0
             ? 0
             : static_cast<unsigned char>(*a) - static_cast<unsigned char>(*b);
}
}

namespace user {
namespace {

struct sink {
  char* to;
  std::size_t room;
  std::size_t length = 0;

  void put(char c) {
    if (length + 1 < room) to[length] = c;
    ++length;
  }
  void fill(char c, int n) {
    while (n-- > 0) put(c);
  }
};

struct shape {
  bool left = false, zero = false, sign = false;
  int width = 0, precision = -1;
};

void put_padded(sink& out, shape const& s, char const* prefix,
                char const* digits, int length) {
  int const prefix_length = static_cast<int>(std::strlen(prefix));
  int const zeroes = s.precision > length ? s.precision - length : 0;
  int const pad = s.width - prefix_length - zeroes - length;
  bool const by_zero = s.zero && !s.left && s.precision < 0;
  if (!s.left && !by_zero) out.fill(' ', pad);
  while (*prefix != 0) out.put(*prefix++);
  out.fill('0', zeroes + (by_zero ? pad : 0));
  for (int i = 0; i < length; ++i) out.put(digits[i]);
  if (s.left) out.fill(' ', pad);
}

void put_number(sink& out, shape const& s, u64 value, bool is_negative,
                unsigned base) {
  char digits[24];
  int at = sizeof digits;
  do digits[--at] = "0123456789abcdef"[value % base];
  while ((value /= base) != 0);
  put_padded(out, s,
             is_negative ? "-"
             : s.sign    ? "+"
                         : "",
             digits + at, static_cast<int>(sizeof digits) - at);
}

// To 9 places; what is larger than a u64 is cut.
void put_real(sink& out, shape s, double value) {
  int const places = s.precision < 0 ? 6 : s.precision > 9 ? 9 : s.precision;
  bool const is_negative = value < 0;
  if (is_negative) value = -value;
  u64 scale = 1;
  for (int i = 0; i < places; ++i) scale *= 10;
  auto whole = static_cast<u64>(value);
  auto part = static_cast<u64>(
      (value - static_cast<double>(whole)) * static_cast<double>(scale) + 0.5);
  if (part >= scale) part -= scale, ++whole;
  char text[48];
  sink digits{text, sizeof text};
  put_number(digits, {}, whole, false, 10);
  if (places > 0) {
    digits.put('.');
    shape fraction;
    fraction.precision = places;
    put_number(digits, fraction, part, false, 10);
  }
  s.precision = -1;
  put_padded(out, s,
             is_negative ? "-"
             : s.sign    ? "+"
                         : "",
             text, static_cast<int>(digits.length));
}

// d.ddde+dd: by the powers of ten, so the last of many places may be off.
void put_scientific(sink& out, shape const& s, double value) {
  int exponent = 0;
  bool const is_negative = value < 0;
  if (is_negative) value = -value;
  for (; value >= 10 && exponent < 308; ++exponent) value /= 10;
  for (; value < 1 && value != 0 && exponent > -308; --exponent) value *= 10;
  shape mantissa;
  mantissa.precision = s.precision;
  put_real(out, mantissa, is_negative ? -value : value);
  out.put('e');
  out.put(exponent < 0 ? '-' : '+');
  shape two_digits;
  two_digits.precision = 2;
  put_number(out, two_digits,
             static_cast<u64>(exponent < 0 ? -exponent : exponent), false, 10);
}

}  // namespace
}  // namespace user

extern "C" int vsnprintf(char* to, std::size_t room, char const* format,
                         va_list list) {
  using namespace user;
  sink out{to, room};
  for (; *format != 0; ++format) {
    if (*format != '%') {
      out.put(*format);
      continue;
    }
    shape s;
    for (++format;; ++format) {
      if (*format == '-')
        s.left = true;
      else if (*format == '0')
        s.zero = true;
      else if (*format == '+')
        s.sign = true;
      else
        break;
    }
    auto const number = [&] {
      if (*format == '*') {
        ++format;
        return va_arg(list, int);
      }
      int n = 0;
      for (; *format >= '0' && *format <= '9'; ++format)
        n = 10 * n + (*format - '0');
      return n;
    };
    s.width = number();
    if (*format == '.') {
      ++format;
      s.precision = number();
    }
    bool is_long = false;
    for (; *format == 'l' || *format == 'z' || *format == 'j' || *format == 't';
         ++format)
      is_long = true;
    switch (*format) {
      case 'd':
      case 'i': {
        long const v = is_long ? va_arg(list, long) : va_arg(list, int);
        put_number(out, s, v < 0 ? -static_cast<u64>(v) : static_cast<u64>(v),
                   v < 0, 10);
        break;
      }
      case 'u':
      case 'x': {
        u64 const v =
            is_long ? va_arg(list, unsigned long) : va_arg(list, unsigned);
        put_number(out, s, v, false, *format == 'u' ? 10 : 16);
        break;
      }
      case 'p':
        out.put('0');
        out.put('x');
        put_number(out, s, va_arg(list, u64), false, 16);
        break;
      case 'f':
      case 'g':
        put_real(out, s, va_arg(list, double));
        break;
      case 'e':
        put_scientific(out, s, va_arg(list, double));
        break;
      case 'c': {
        char const c = static_cast<char>(va_arg(list, int));
        s.precision = -1;
        put_padded(out, s, "", &c, 1);
        break;
      }
      case 's': {
        char const* const text = va_arg(list, char const*);
        int length = 0;
        while ((s.precision < 0 || length < s.precision) && text[length] != 0)
          ++length;
        s.precision = -1;
        s.zero = false;
        put_padded(out, s, "", text, length);
        break;
      }
      default:
        out.put(*format);
    }
  }
  if (room > 0) to[out.length < room ? out.length : room - 1] = 0;
  return static_cast<int>(out.length);
}

extern "C" {

// All streams are the console.
FILE* stdout = nullptr;
FILE* stderr = nullptr;

int vprintf(char const* format, va_list list) {
  char text[1024];
  int const length = vsnprintf(text, sizeof text, format, list);
  user::print(text, std::strlen(text));
  return length;
}
int vfprintf(FILE*, char const* format, va_list list) {
  return vprintf(format, list);
}
int printf(char const* format, ...) {
  va_list list;
  va_start(list, format);
  int const length = vprintf(format, list);
  va_end(list);
  return length;
}
int fprintf(FILE*, char const* format, ...) {
  va_list list;
  va_start(list, format);
  int const length = vprintf(format, list);
  va_end(list);
  return length;
}
int snprintf(char* to, std::size_t room, char const* format, ...) {
  va_list list;
  va_start(list, format);
  int const length = vsnprintf(to, room, format, list);
  va_end(list);
  return length;
}
int puts(char const* text) {
  return printf("%s\n", text);
}
int putchar(int c) {
  return printf("%c", c);
}
int fflush(FILE*) {
  return 0;
}
}
