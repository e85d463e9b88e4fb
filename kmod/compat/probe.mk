# SPDX-License-Identifier: GPL-2.0-only
# What the kernel's headers have, found by looking rather than by version.
actv-has = $(shell grep -qs '$(2)' $(srctree)/include/linux/$(1) && \
	     echo -D$(3))
ccflags-y += $(call actv-has,sched.h,task_is_runnable,ACTV_HAVE_TASK_IS_RUNNABLE)
ccflags-y += $(call actv-has,rseq.h,rseq_preempt,ACTV_HAVE_RSEQ_H)
ccflags-y += $(call actv-has,mm.h,void vm_flags_set,ACTV_HAVE_VM_FLAGS_SET)
ccflags-y += $(call actv-has,hrtimer.h,void hrtimer_setup,ACTV_HAVE_HRTIMER_SETUP)
ccflags-y += $(call actv-has,wait.h,__wake_up_on_current_cpu,ACTV_HAVE_WAKE_ON_CURRENT_CPU)
