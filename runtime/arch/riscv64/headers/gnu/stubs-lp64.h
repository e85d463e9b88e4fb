/* SPDX-License-Identifier: BSL-1.0 */
/* The kernel is compiled without floating point (-mabi=lp64), for which the
 * cross compiler's C library has no such file; it would list the functions
 * that library lacks. */
