//! The part that a kernel function plays in a stack, whatever the stack is about.

use super::starts_with_any;

/// The part a function plays in a stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::roles) enum Part {
    /// None that matters: the caller decides.
    #[default]
    Ordinary,
    /// A helper that works for its caller.
    Absorber,
    /// The scheduler's way out of, or back into, a task.
    Schedule,
    /// First kernel function of a page fault.
    FaultEntry,
    /// First kernel function of an interrupt.
    InterruptEntry,
    /// Puts the task on a wait queue, or takes it off.
    WaitQueue,
    /// Counts or records an event, for pipeprof or for another profiler.
    Profiling,
    /// The slow path of letting go of a mutex, which wakes the next in line.
    MutexUnlock,
}

pub(super) fn part(name: &str) -> Part {
    match name {
        "__schedule"
        | "__schedule_loop"
        | "finish_task_switch"
        | "__switch_to"
        | "__switch_to_asm"
        | "context_switch"
        | "io_schedule"
        | "io_schedule_timeout"
        | "pick_next_task"
        | "pick_next_task_fair"
        | "prepare_task_switch"
        | "dequeue_task"
        | "dequeue_task_fair"
        | "dequeue_entity"
        | "do_task_dead" => Part::Schedule,
        // `schedule_work` and its like queue something for later; they don't switch.
        "schedule"
        | "schedule_preempt_disabled"
        | "schedule_timeout"
        | "schedule_tail"
        | "schedule_rtlock"
        | "schedule_user"
        | "schedule_idle" => Part::Schedule,
        _ if starts_with_any(name, &["schedule_hrtimeout", "schedule_timeout_"]) => Part::Schedule,

        "asm_exc_page_fault"
        | "exc_page_fault"
        | "async_page_fault"
        | "page_fault"
        | "do_page_fault"
        | "__do_page_fault"
        | "do_async_page_fault"
        | "do_user_addr_fault"
        | "do_mem_abort" => Part::FaultEntry,

        "asm_common_interrupt"
        | "common_interrupt"
        | "ret_from_intr"
        | "do_IRQ"
        | "apic_timer_interrupt"
        | "smp_apic_timer_interrupt"
        | "reschedule_interrupt"
        | "call_function_interrupt"
        | "call_function_single_interrupt"
        | "irq_work_interrupt"
        | "asm_exc_nmi"
        | "el1h_64_irq"
        | "el0t_64_irq"
        | "el0_irq"
        | "el0_irq_naked"
        | "el1_irq"
        | "gic_handle_irq" => Part::InterruptEntry,
        _ if starts_with_any(name, &["asm_sysvec_", "sysvec_"]) => Part::InterruptEntry,

        "prepare_to_wait"
        | "prepare_to_wait_event"
        | "prepare_to_wait_exclusive"
        | "finish_wait"
        | "init_wait_entry"
        | "init_wait_func"
        | "add_wait_queue"
        | "remove_wait_queue"
        | "__add_wait_queue_entry" => Part::WaitQueue,

        _ if name.starts_with("__mutex_unlock") => Part::MutexUnlock,

        // kernel/events/core.c, kernel/trace/trace_event_perf.c, trace_syscalls.c: what a tracepoint
        // or a switch calls. A program's own use of perf (`perf_read`, `perf_ioctl`) is its work.
        _ if starts_with_any(
            name,
            &[
                "perf_trace_",
                "perf_tp_event",
                "perf_syscall_",
                "perf_swevent_",
                "__perf_sw_event",
                "___perf_sw_event",
                "perf_event_switch",
                "perf_event_exit_task",
                "perf_event_task_sched_",
                "__perf_event_task_sched_",
                "perf_event_context_sched_",
            ],
        ) =>
        {
            Part::Profiling
        }

        "native_queued_spin_lock_slowpath"
        | "queued_spin_lock_slowpath"
        | "do_raw_spin_lock"
        | "do_raw_spin_unlock"
        | "memcpy"
        | "memset"
        | "memcpy_erms"
        | "memcpy_orig"
        | "rep_movs_alternative"
        | "rep_stos_alternative"
        | "__list_del_entry_valid"
        | "__list_add_valid"
        | "__list_del_entry_valid_or_report"
        | "__list_add_valid_or_report"
        | "preempt_count_add"
        | "preempt_count_sub"
        | "__local_bh_enable_ip"
        | "__check_object_size"
        | "__virt_addr_valid"
        | "check_stack_object"
        // The border of a section, at whose address the first thunk lies (6.12).
        | "__softirqentry_text_end" => Part::Absorber,
        _ if starts_with_any(
            name,
            &[
                "_raw_",
                "__raw_",
                "pv_",
                "__pv_",
                "srso_",
                "retbleed_",
                "__x86_indirect_",
                "__x86_return_",
                "its_",
                "rcu_",
                "__rcu_",
                "copy_user_",
                "__copy_user_",
                "__memcpy",
                "__get_user_",
                "__put_user_",
                "native_",
                "paravirt_",
                "__fentry__",
                "ftrace_",
                "lock_acquire",
                "lock_release",
            ],
        ) =>
        {
            Part::Absorber
        }
        _ => Part::Ordinary,
    }
}
