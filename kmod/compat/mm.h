/* SPDX-License-Identifier: GPL-2.0-only */
/* vm_flags became read-only, with accessors, in 6.3. */
#ifndef ACTV_COMPAT_MM_H
#define ACTV_COMPAT_MM_H

#include <linux/mm.h>

#ifndef ACTV_HAVE_VM_FLAGS_SET
static inline void vm_flags_set(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags |= flags;
}

static inline void vm_flags_clear(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags &= ~flags;
}
#endif

#endif /* ACTV_COMPAT_MM_H */
