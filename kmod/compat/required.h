/* SPDX-License-Identifier: GPL-2.0-only */
/* What a kernel must have, each in one plain sentence; included everywhere. */
#ifndef ACTV_COMPAT_REQUIRED_H
#define ACTV_COMPAT_REQUIRED_H

#ifndef CONFIG_X86_64
#error "activations: this module supports x86-64 kernels only."
#endif
#ifndef CONFIG_PREEMPT_NOTIFIERS
#error "activations: this kernel was built without CONFIG_PREEMPT_NOTIFIERS, which CONFIG_KVM selects."
#endif
#ifndef CONFIG_USER_RETURN_NOTIFIER
#error "activations: this kernel was built without CONFIG_USER_RETURN_NOTIFIER, which CONFIG_KVM selects."
#endif
#ifdef CONFIG_PREEMPT_RT
#error "activations: PREEMPT_RT kernels are not supported."
#endif

#endif /* ACTV_COMPAT_REQUIRED_H */
