/* SPDX-License-Identifier: BSL-1.0 */
/*
 * Where each field of abi.h lies, asserted by every language that includes
 * this: a kernel and a program that were built years apart must agree.  A
 * change here is a new major version of the contract.
 */
#ifndef ACTIVATIONS_TESTS_ABI_LAYOUT_H
#define ACTIVATIONS_TESTS_ABI_LAYOUT_H

#include <activations/abi.h>

#define LIES(type, field, offset, bytes)                                     \
  ACTIVATIONS_STATIC_ASSERT(offsetof(struct type, field) == (offset) &&      \
                                sizeof(((struct type*)0)->field) == (bytes), \
                            #type "." #field " is not where it was")
#define MEASURES(type, bytes)                               \
  ACTIVATIONS_STATIC_ASSERT(sizeof(struct type) == (bytes), \
                            #type " has another size than before")

LIES(activations_cause, kind, 0, 4);
LIES(activations_cause, number, 4, 4);
LIES(activations_cause, address, 8, 8);
LIES(activations_cause, arguments, 16, 48);
MEASURES(activations_cause, 64);

LIES(activations_processor_info, word, 0, 8);
LIES(activations_processor_info, cpu, 8, 4);
LIES(activations_processor_info, node, 12, 4);
LIES(activations_processor_info, since_ns, 16, 8);
LIES(activations_processor_info, revoke_deadline_ns, 24, 8);
LIES(activations_processor_info, grants, 32, 8);
LIES(activations_processor_info, blocks, 40, 8);
LIES(activations_processor_info, unblocks, 48, 8);
LIES(activations_processor_info, preemptions, 56, 8);
MEASURES(activations_processor_info, 64);

LIES(activations_processor_control, pending, 0, 4);
LIES(activations_processor_control, reserved0, 4, 4);
LIES(activations_processor_control, entry, 8, 8);
LIES(activations_processor_control, slice_ns, 16, 8);
LIES(activations_processor_control, dispatches, 24, 8);
LIES(activations_processor_control, segment_start_ns, 32, 8);
LIES(activations_processor_control, reserved, 40, 24);
MEASURES(activations_processor_control, 64);

LIES(activations_registers, bytes, 0, 4);
LIES(activations_registers, reserved, 4, 4);
LIES(activations_registers, signal_mask, 8, 8);
LIES(activations_registers, values, 16, 368);
MEASURES(activations_registers, 384);

LIES(activations_activation_info, state, 0, 4);
LIES(activations_activation_info, generation, 4, 4);
LIES(activations_activation_info, tid, 8, 4);
LIES(activations_activation_info, processor, 12, 4);
LIES(activations_activation_info, since_ns, 16, 8);
LIES(activations_activation_info, events, 24, 4);
LIES(activations_activation_info, predecessor, 28, 4);
LIES(activations_activation_info, cause, 32, 64);
LIES(activations_activation_info, reserved1, 96, 32);
MEASURES(activations_activation_info, 128);

LIES(activations_activation_control, disabled, 0, 4);
LIES(activations_activation_control, pending, 4, 4);
LIES(activations_activation_control, resume, 8, 4);
LIES(activations_activation_control, save_slot, 12, 4);
LIES(activations_activation_control, cookie, 16, 8);
LIES(activations_activation_control, reserved, 24, 40);
MEASURES(activations_activation_control, 64);

LIES(activations_info_header, magic, 0, 4);
LIES(activations_info_header, version, 4, 4);
LIES(activations_info_header, bytes, 8, 8);
LIES(activations_info_header, features, 16, 8);
LIES(activations_info_header, processor_count, 24, 4);
LIES(activations_info_header, processor_offset, 28, 4);
LIES(activations_info_header, activation_count, 32, 4);
LIES(activations_info_header, activation_offset, 36, 4);
LIES(activations_info_header, register_offset, 40, 4);
LIES(activations_info_header, idle_offset, 44, 4);
LIES(activations_info_header, idle_count, 48, 4);
LIES(activations_info_header, spare_count, 52, 4);
LIES(activations_info_header, reserved, 56, 8);
MEASURES(activations_info_header, 64);

LIES(activations_control_header, magic, 0, 4);
LIES(activations_control_header, version, 4, 4);
LIES(activations_control_header, bytes, 8, 8);
LIES(activations_control_header, processor_count, 16, 4);
LIES(activations_control_header, processor_offset, 20, 4);
LIES(activations_control_header, activation_count, 24, 4);
LIES(activations_control_header, activation_offset, 28, 4);
LIES(activations_control_header, wanted, 32, 4);
LIES(activations_control_header, work_waiting, 36, 4);
LIES(activations_control_header, stopped_offset, 40, 4);
LIES(activations_control_header, stopped, 44, 4);
LIES(activations_control_header, reserved, 48, 16);
MEASURES(activations_control_header, 64);

LIES(activations_open, version, 0, 4);
LIES(activations_open, processors, 4, 4);
LIES(activations_open, activations, 8, 4);
LIES(activations_open, park_stub_bytes, 12, 4);
LIES(activations_open, park_stub, 16, 8);
LIES(activations_open, features, 24, 8);
LIES(activations_open, info_bytes, 32, 8);
LIES(activations_open, control_bytes, 40, 8);
MEASURES(activations_open, 48);

LIES(activations_stats, blocks, 0, 8);
LIES(activations_stats, unblocks, 8, 8);
LIES(activations_stats, preemptions, 16, 8);
LIES(activations_stats, keeps, 24, 8);
LIES(activations_stats, disabled_blocks, 32, 8);
LIES(activations_stats, no_spare, 40, 8);
LIES(activations_stats, direct_resumes, 48, 8);
LIES(activations_stats, fallbacks, 56, 8);
MEASURES(activations_stats, 64);

/* Values that both sides compile in. */
ACTIVATIONS_STATIC_ASSERT(ACTIVATIONS_ABI_MAGIC == 0x61637476u, "\"actv\"");
ACTIVATIONS_STATIC_ASSERT(ACTIVATIONS_ABI_VERSION == 0x00010000u, "1.0");
ACTIVATIONS_STATIC_ASSERT(ACTIVATIONS_INDEX_NONE == 0xFFFFFu, "20 bits");
ACTIVATIONS_STATIC_ASSERT(ACTIVATIONS_EVENT_GRANTED == 1 &&
                              ACTIVATIONS_EVENT_REVOKE_SOON == 2 &&
                              ACTIVATIONS_EVENT_PREEMPTED == 4 &&
                              ACTIVATIONS_EVENT_BLOCKED == 8 &&
                              ACTIVATIONS_EVENT_UNBLOCKED == 16 &&
                              ACTIVATIONS_EVENT_TIMER == 32,
                          "one bit for each event");
ACTIVATIONS_STATIC_ASSERT(ACTIVATIONS_FEATURE_STOP == 1 &&
                              ACTIVATIONS_FEATURE_REDIRECT == 2 &&
                              ACTIVATIONS_FEATURE_EXACT == 4 &&
                              ACTIVATIONS_FEATURE_PREEMPT == 8 &&
                              ACTIVATIONS_FEATURE_GRANTS == 16,
                          "one bit for each feature");
ACTIVATIONS_STATIC_ASSERT(ACTIVATIONS_PROCESSOR_OFFLINE == 0 &&
                              ACTIVATIONS_PROCESSOR_RUNNING == 1 &&
                              ACTIVATIONS_PROCESSOR_IDLE == 2 &&
                              ACTIVATIONS_PROCESSOR_PREEMPTED == 3 &&
                              ACTIVATIONS_PROCESSOR_REVOKING == 4,
                          "states of a processor");
ACTIVATIONS_STATIC_ASSERT(ACTIVATIONS_ACTIVATION_UNUSED == 0 &&
                              ACTIVATIONS_ACTIVATION_SPARE == 1 &&
                              ACTIVATIONS_ACTIVATION_RUNNING == 2 &&
                              ACTIVATIONS_ACTIVATION_BLOCKED == 3 &&
                              ACTIVATIONS_ACTIVATION_UNBLOCKED == 4 &&
                              ACTIVATIONS_ACTIVATION_PREEMPTED == 5 &&
                              ACTIVATIONS_ACTIVATION_PARKED == 6,
                          "states of an activation");
ACTIVATIONS_STATIC_ASSERT(ACTIVATIONS_CAUSE_UNKNOWN == 0 &&
                              ACTIVATIONS_CAUSE_SYSCALL == 1 &&
                              ACTIVATIONS_CAUSE_FAULT == 2 &&
                              ACTIVATIONS_CAUSE_FUTEX == 3 &&
                              ACTIVATIONS_CAUSE_OTHER == 4,
                          "causes of a block");
ACTIVATIONS_STATIC_ASSERT(
    ACTIVATIONS_CALL_OPEN == 1 && ACTIVATIONS_CALL_ATTACH == 2 &&
        ACTIVATIONS_CALL_PARK == 3 && ACTIVATIONS_CALL_SWITCH_TO == 4 &&
        ACTIVATIONS_CALL_REQUEST == 5 && ACTIVATIONS_CALL_RELEASE == 6 &&
        ACTIVATIONS_CALL_KICK == 7 && ACTIVATIONS_CALL_SLICE == 8 &&
        ACTIVATIONS_CALL_STATS == 9,
    "numbers of the calls");

/* State, owner and tag fill the word and do not overlap. */
ACTIVATIONS_STATIC_ASSERT(ACTIVATIONS_WORD_STATE_MASK ==
                                  (1ull << ACTIVATIONS_WORD_OWNER_SHIFT) - 1 &&
                              ACTIVATIONS_WORD_OWNER_SHIFT +
                                      ACTIVATIONS_INDEX_BITS ==
                                  ACTIVATIONS_WORD_TAG_SHIFT,
                          "fields of the processor word");

#undef LIES
#undef MEASURES

#endif /* ACTIVATIONS_TESTS_ABI_LAYOUT_H */
