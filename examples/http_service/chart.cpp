// SPDX-License-Identifier: BSL-1.0
#include "chart.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <string_view>
#include <vector>

namespace http_service {
namespace {

constexpr double width = 960, height = 760;
constexpr double plot_width = 350, plot_height = 230;
constexpr double first_left = 76, first_top = 150;
constexpr double step_right = 456, step_down = 300;
constexpr double label_gap = 15;  // between the p99 values of one panel

// By mode; they differ in lightness too.
constexpr std::array<char const*, 3> colours{"#d9480f", "#64748b", "#0b7285"};
constexpr std::array<char const*, 3> widths{"2", "2", "3"};

// How far to the right a share of the requests is: 0.9 at 1, 0.99 at 2.
constexpr double last_decade = 3;
double rarity(double share) {
  return -std::log10(1 - share);
}
double share_at(double rarity) {
  return 1 - std::pow(10, -rarity);
}

template <typename... Values>
std::string format(char const* pattern, Values... values) {
  char buffer[1024];
  std::snprintf(buffer, sizeof buffer, pattern, values...);
  return buffer;
}

std::string text(double x, double y, char const* attributes,
                 std::string const& words) {
  return format("<text x=\"%.1f\" y=\"%.1f\" %s>%s</text>\n", x, y, attributes,
                words.c_str());
}

std::string line(double x1, double y1, double x2, double y2,
                 char const* attributes) {
  return format("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" %s/>\n",
                x1, y1, x2, y2, attributes);
}

std::string duration(double ms) {
  if (ms >= 1'000) return format("%.3g s", ms / 1'000);
  if (ms < 0.01) return format("%.3g us", ms * 1'000);
  return format(ms < 10 ? "%.2g ms" : "%.3g ms", ms);
}

// Milliseconds from one of 1, 2 or 5 times a power of ten to another, the same
// in all panels so that they compare.
struct time_axis {
  double lowest_ms = 0, highest_ms = 0;

  explicit time_axis(report const& r) {
    double least = 1e6, most = 0.01;
    for (auto const& mode : r.curves) {
      for (auto const& curve : mode.kinds) {
        if (curve.count() == 0) continue;
        least = std::min(least, curve.at(0));
        most = std::max(most, curve.at(share_at(last_decade)));
      }
    }
    least = std::clamp(least, 0.01, most);
    auto const below = std::pow(10, std::floor(std::log10(least)));
    auto const above = std::pow(10, std::ceil(std::log10(most)));
    lowest_ms = below;
    highest_ms = above;
    for (auto const step : {2, 5}) {
      if (step * below <= least) lowest_ms = step * below;
    }
    for (auto const step : {2, 5}) {
      if (above / step >= most) highest_ms = above / step;
    }
    highest_ms = std::max(highest_ms, 10 * lowest_ms);
  }
};

class panel {
 public:
  panel(report const& r, time_axis axis, std::size_t kind)
      : report_(r),
        axis_(axis),
        kind_(kind),
        left_(first_left + step_right * static_cast<double>(kind % 2)),
        top_(first_top + step_down * static_cast<double>(kind / 2)) {}

  std::string draw() const {
    auto svg = text(left_, top_ - 12, "class=\"panel\"",
                    std::string(kind_names[kind_])) +
               grid();
    for (std::size_t m = 0; m < report_.modes.size(); ++m) svg += curve(m);
    return svg + p99_labels();
  }

 private:
  double x(double rare) const {
    return left_ + plot_width * rare / last_decade;
  }
  double y(double ms) const {
    auto const share = std::log(std::max(ms, 1e-3) / axis_.lowest_ms) /
                       std::log(axis_.highest_ms / axis_.lowest_ms);
    return top_ + plot_height * (1 - std::clamp(share, 0.0, 1.0));
  }
  latency_distribution const& latencies(std::size_t m) const {
    return report_.curves[m].kinds[kind_];
  }
  std::size_t style(std::size_t m) const {
    return static_cast<std::size_t>(report_.modes[m].how);
  }

  std::string grid() const {
    std::string svg;
    for (auto ms = 0.01; ms <= axis_.highest_ms * 1.001; ms *= 10) {
      if (ms < axis_.lowest_ms * 0.999) continue;
      svg += line(left_, y(ms), left_ + plot_width, y(ms), "class=\"grid\"");
      svg += text(left_ - 8, y(ms) + 4, "class=\"tick\" text-anchor=\"end\"",
                  duration(ms));
    }
    for (auto const share : {0.0, 0.5, 0.9, 0.99, 0.999}) {
      auto const at = x(rarity(share));
      svg += line(at, top_, at, top_ + plot_height, "class=\"grid\"");
      svg += text(at, top_ + plot_height + 17,
                  "class=\"tick\" text-anchor=\"middle\"",
                  share == 0 ? "min" : format("%g %%", share * 100));
    }
    return svg;
  }

  // Solid where known, dotted where requests without an answer make it a lower
  // bound.
  std::string curve(std::size_t m) const {
    auto const& of = latencies(m);
    if (of.count() == 0) return {};
    std::string known, bound;
    constexpr int points = 150;
    for (int i = 0; i <= points; ++i) {
      auto const rare = last_decade * i / points;
      auto const share = share_at(rare);
      auto const point = format("%.1f,%.1f ", x(rare), y(of.at(share)));
      if (!of.is_bound(share)) known += point;
      if (of.is_bound(share) || of.is_bound(share_at(rare + 0.03))) {
        bound += point;
      }
    }
    auto const polyline = [&](std::string const& points, char const* dashes) {
      return points.empty()
                 ? std::string()
                 : "<polyline fill=\"none\" stroke=\"" +
                       std::string(colours[style(m)]) + "\" stroke-width=\"" +
                       widths[style(m)] + "\" " + dashes + " points=\"" +
                       points + "\"/>\n";
    };
    return polyline(known, "stroke-linejoin=\"round\"") +
           polyline(bound, "stroke-dasharray=\"2 4\"");
  }

  std::string p99_labels() const {
    struct label {
      double at;  // y
      std::size_t mode;
    };
    std::vector<label> labels;
    for (std::size_t m = 0; m < report_.modes.size(); ++m) {
      if (latencies(m).count() != 0) {
        labels.push_back({y(latencies(m).at(0.99)), m});
      }
    }
    std::sort(labels.begin(), labels.end(),
              [](label const& a, label const& b) { return a.at < b.at; });
    // The lowest curve has room below it, to the right; the others above, to
    // the left, one over the other.
    std::string svg;
    double taken_from = top_ + plot_height;
    for (auto i = labels.size(); i-- > 0;) {
      auto const& [at, m] = labels[i];
      auto const is_lowest = i + 1 == labels.size();
      auto const* const colour = colours[style(m)];
      svg += format("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\"/>\n",
                    x(2), at, colour);
      auto const baseline = is_lowest ? at + 16 : std::min(at - 8, taken_from);
      if (!is_lowest) taken_from = baseline - label_gap;
      auto const attributes =
          format("class=\"value\" text-anchor=\"%s\" style=\"fill: %s\"",
                 is_lowest ? "start" : "end", colour);
      auto const& of = latencies(m);
      svg += text(is_lowest ? x(2) + 8 : x(2) - 8, baseline, attributes.c_str(),
                  (of.is_bound(0.99) ? "over " : "") + duration(of.at(0.99)));
    }
    return svg;
  }

  report const& report_;
  time_axis axis_;
  std::size_t kind_;
  double left_, top_;
};

std::string legend(report const& r) {
  std::string svg;
  double left = first_left;
  for (auto const& mode : r.modes) {
    auto const style = static_cast<std::size_t>(mode.how);
    auto const stroke = format("stroke=\"%s\" stroke-width=\"%s\"",
                               colours[style], widths[style]);
    svg += line(left, 100, left + 28, 100, stroke.c_str());
    svg +=
        text(left + 36, 104.5, "class=\"key\"", std::string(name_of(mode.how)));
    left += 160;
  }
  return svg;
}

constexpr std::string_view style_sheet =
    "<style>\n"
    "text { font-family: 'DejaVu Sans', 'Liberation Sans', Arial, sans-serif; "
    "fill: #1e293b; }\n"
    ".title { font-size: 20px; font-weight: bold; }\n"
    ".note { font-size: 13px; fill: #475569; }\n"
    ".panel { font-size: 15px; font-weight: bold; }\n"
    ".key { font-size: 14px; }\n"
    ".tick { font-size: 11.5px; fill: #475569; }\n"
    ".value { font-size: 12.5px; font-weight: bold; paint-order: stroke; "
    "stroke: #ffffff; stroke-width: 3px; }\n"
    ".grid { stroke: #e2e8f0; stroke-width: 1; }\n"
    "</style>\n";

}  // namespace

std::string to_svg(report const& r) {
  std::string svg = format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" "
      "width=\"%.0f\" height=\"%.0f\">\n"
      "<!-- SPDX-License-Identifier: BSL-1.0 -->\n"
      "<title>Latency of a blocking HTTP service, three ways</title>\n",
      width, height, width, height);
  svg += style_sheet;
  svg += format("<rect width=\"%.0f\" height=\"%.0f\" fill=\"#ffffff\"/>\n",
                width, height);
  svg += text(first_left, 42, "class=\"title\"",
              "The same blocking HTTP service, run three ways");
  svg += text(first_left, 68, "class=\"note\"",
              format("Latency by percentile at %g requests/s, counted from the "
                     "intended start; both axes logarithmic",
                     r.options.rate));
  svg += legend(r);
  time_axis const axis(r);
  for (std::size_t kind = 0; kind < kind_count; ++kind) {
    svg += panel(r, axis, kind).draw();
  }
  svg += text(width / 2, height - 14, "class=\"note\" text-anchor=\"middle\"",
              "across: share of requests that took no longer; dot: 99 %; "
              "dotted: no answer by the end, so at least this long");
  return svg + "</svg>\n";
}

}  // namespace http_service
