// SPDX-License-Identifier: BSL-1.0
// Compiles or not: abi.h as plain C11, its sizes and offsets asserted there.
#include <activations/abi.h>

#include "abi_layout.h"

// Without a declaration of its own C calls this file empty.
extern int abi_c11_compiles;
