/* SPDX-License-Identifier: GPL-2.0-only */
/* struct fd hides its file behind fd_file() since 6.12. */
#ifndef ACTV_COMPAT_FILE_H
#define ACTV_COMPAT_FILE_H

#include <linux/file.h>

#ifndef fd_file
#define fd_file(f) ((f).file)
#endif

#endif /* ACTV_COMPAT_FILE_H */
