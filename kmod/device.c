// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/activations.  Every argument that comes from user space is checked here,
 * once, and nowhere else; what the calls do is in the other files.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/uaccess.h>

#include <activations/abi_linux.h>

#include "activation.h"
#include "compat/file.h"
#include "processor.h"

#define ACTV_FEATURES (ACTIVATIONS_FEATURE_EXACT | ACTIVATIONS_FEATURE_PREEMPT)
#define ACTV_STUB_BYTES_MAX 4096

/* OPEN against OPEN; rare. */
static DEFINE_MUTEX(open_mutex);

/* Is [start, start + bytes) in user space, whatever is there? */
static bool actv_user_range(u64 start, u64 bytes)
{
	return start && start < TASK_SIZE_MAX && bytes <= TASK_SIZE_MAX - start;
}

/*
 * OPEN.  Return: 0; -EBUSY: this file is a space already; -EINVAL;
 * -EPROTO: another major version; -EOPNOTSUPP: a required feature is
 * missing; -EFAULT; and what actv_space_open() returns.
 */
static long actv_call_open(struct file *file, void __user *argument)
{
	struct activations_open args;
	struct actv_space *s;
	u64 features = ACTV_FEATURES;
	long result = 0;

	if (copy_from_user(&args, argument, sizeof(args)))
		return -EFAULT;
	if (args.version >> 16 != ACTIVATIONS_ABI_MAJOR)
		return -EPROTO;
	if (!args.processors || !args.activations)
		return -EINVAL;
	if (args.park_stub_bytes) {
		if (args.park_stub_bytes < 2 ||
		    args.park_stub_bytes > ACTV_STUB_BYTES_MAX ||
		    !actv_user_range(args.park_stub, args.park_stub_bytes))
			return -EINVAL;
		features |= ACTIVATIONS_FEATURE_STOP;
	} else if (args.park_stub) {
		return -EINVAL;
	}
	if (args.features & ~features)
		return -EOPNOTSUPP;
	args.features = features;
	args.version = ACTIVATIONS_ABI_VERSION;

	mutex_lock(&open_mutex);
	if (file->private_data) {
		result = -EBUSY;
		goto out;
	}
	s = actv_space_open(&args);
	if (IS_ERR(s)) {
		result = PTR_ERR(s);
		goto out;
	}
	if (copy_to_user(argument, &args, sizeof(args))) {
		actv_space_close(s);
		result = -EFAULT;
		goto out;
	}
	actv_debugfs_add(s);
	/* Pairs with the acquire in actv_file_space(). */
	smp_store_release(&file->private_data, s);
out:
	mutex_unlock(&open_mutex);
	return result;
}

/* The caller's space, if it is one of its threads. */
static struct actv_space *actv_file_space(struct file *file)
{
	/* Pairs with the release in actv_call_open(). */
	struct actv_space *s = smp_load_acquire(&file->private_data);

	if (!s)
		return ERR_PTR(-EINVAL);
	if (current->mm != s->mm)
		return ERR_PTR(-EPERM);
	return s;
}

static long actv_call_attach(struct actv_space *s, struct file *file,
			     void __user *argument)
{
	struct activations_attach args;
	struct fd used;
	bool same;
	int fd;

	if (copy_from_user(&args, argument, sizeof(args)))
		return -EFAULT;
	if (args.index >= s->activation_count)
		return -EINVAL;
	if (args.processor != ACTIVATIONS_INDEX_NONE &&
	    args.processor >= s->processor_count)
		return -EINVAL;
	if (!actv_user_range(args.registers,
			     sizeof(struct activations_registers)))
		return -EINVAL;
	/* The descriptor of this very call is the one for the park stub. */
	fd = current_pt_regs()->di;
	used = fdget(fd);
	same = fd_file(used) == file;
	fdput(used);
	if (!same)
		return -EBADF;
	return actv_attach(s, file, fd, args.index, args.processor,
			   args.registers);
}

static long actv_call_slice(struct actv_space *s, void __user *argument)
{
	struct activations_slice args;

	if (copy_from_user(&args, argument, sizeof(args)))
		return -EFAULT;
	if (args.processor >= s->processor_count || args.reserved)
		return -EINVAL;
	if (args.ns &&
	    (args.ns < ACTV_SLICE_MIN_NS || args.ns > ACTV_SLICE_MAX_NS))
		return -EINVAL;
	actv_slice(actv_processor_at(s, args.processor), args.ns);
	return 0;
}

static long actv_call_stats(struct actv_space *s, void __user *argument)
{
	struct activations_stats stats;

	actv_space_stats(s, &stats);
	return copy_to_user(argument, &stats, sizeof(stats)) ? -EFAULT : 0;
}

static long actv_ioctl(struct file *file, unsigned int command,
		       unsigned long argument)
{
	void __user *pointer = (void __user *)argument;
	struct actv_activation *a;
	struct actv_space *s;

	if (command == ACTIVATIONS_IOCTL_OPEN)
		return actv_call_open(file, pointer);

	s = actv_file_space(file);
	if (IS_ERR(s))
		return PTR_ERR(s);

	/* From any thread of the process. */
	switch (command) {
	case ACTIVATIONS_IOCTL_ATTACH:
		return actv_call_attach(s, file, pointer);
	case ACTIVATIONS_IOCTL_REQUEST:
		if (argument > s->processor_count)
			argument = s->processor_count;
		return actv_request(s, argument);
	case ACTIVATIONS_IOCTL_KICK:
		if (argument >= s->processor_count)
			return -EINVAL;
		return actv_kick(actv_processor_at(s, argument));
	case ACTIVATIONS_IOCTL_WAKE:
		if (argument >= s->processor_count)
			return -EINVAL;
		return actv_wake_processor(actv_processor_at(s, argument));
	case ACTIVATIONS_IOCTL_SLICE:
		return actv_call_slice(s, pointer);
	case ACTIVATIONS_IOCTL_STATS:
		return actv_call_stats(s, pointer);
	case ACTIVATIONS_IOCTL_TIMER:
		actv_timer(s, argument);
		return 0;
	case ACTIVATIONS_IOCTL_END:
		if ((u32)argument == ~0u)
			return actv_end(s, ~0u);
		if (argument >= s->activation_count)
			return -EINVAL;
		return actv_end(s, argument);
	}

	/* From activations. */
	a = actv_current(s);
	switch (command) {
	case ACTIVATIONS_IOCTL_PARK:
		return a ? actv_park(a) : -EPERM;
	case ACTIVATIONS_IOCTL_SWITCH_TO:
		if (argument >= s->activation_count)
			return -EINVAL;
		return a ? actv_switch_to(a, argument) : -EPERM;
	case ACTIVATIONS_IOCTL_RELEASE:
		return a ? actv_release(a, argument) : -EPERM;
	case ACTIVATIONS_IOCTL_STOP:
		return a ? actv_stop(a) : -EPERM;
	case ACTIVATIONS_IOCTL_DETACH:
		if (!a)
			return -EPERM;
		actv_leave(a);
		return 0;
	}
	return -ENOTTY;
}

static int actv_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct actv_space *s = actv_file_space(file);

	return IS_ERR(s) ? PTR_ERR(s) : actv_space_mmap(s, vma);
}

/* After the last close, munmap and detach. */
static int actv_file_release(struct inode *inode, struct file *file)
{
	struct actv_space *s = file->private_data;

	if (s) {
		actv_debugfs_remove(s);
		actv_space_close(s);
	}
	return 0;
}

/* misc_open() leaves the device in private_data; ours begins empty. */
static int actv_file_open(struct inode *inode, struct file *file)
{
	file->private_data = NULL;
	return 0;
}

static const struct file_operations actv_fops = {
	.owner = THIS_MODULE,
	.open = actv_file_open,
	.release = actv_file_release,
	.unlocked_ioctl = actv_ioctl,
	.mmap = actv_mmap,
	.llseek = actv_llseek,
};

static struct miscdevice actv_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "activations",
	.fops = &actv_fops,
	.mode = 0660,
};

int actv_device_init(void)
{
	return misc_register(&actv_device);
}

void actv_device_exit(void)
{
	misc_deregister(&actv_device);
}
