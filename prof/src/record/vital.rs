//! What is measured of a process as a whole.

macro_rules! vitals {
    ($($(#[$doc:meta])* $name:ident = $code:literal $text:literal,)*) => {
        /// Something measured of the process as a whole; bytes, unless it says otherwise.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Vital {
            $($(#[$doc])* $name,)*
        }

        impl Vital {
            /// Every one, in the order of their codes.
            pub const ALL: &'static [Vital] = &[$(Vital::$name),*];

            pub(super) fn code(self) -> u64 {
                match self {
                    $(Vital::$name => $code,)*
                }
            }

            /// As machine-readable output names it.
            pub fn text(self) -> &'static str {
                match self {
                    $(Vital::$name => $text,)*
                }
            }
        }
    };
}

vitals! {
    /// Anonymous memory in RAM: heap, stacks, private changes of files (`RssAnon`).
    RssAnon = 0 "rss_anon",
    /// Pages of files in RAM (`RssFile`).
    RssFile = 1 "rss_file",
    /// Shared memory in RAM (`RssShmem`).
    RssShmem = 2 "rss_shmem",
    /// Anonymous memory in swap.
    Swap = 3 "swap",
    /// Memory in RAM that no other process has mapped (unique set size); read less often than the rest.
    Uss = 4 "uss",
    /// Memory in RAM, each page divided by the number of processes that have it (proportional set size); read less often.
    Pss = 5 "pss",
    /// What the allocator has from the system, its mapped blocks included.
    AllocatorSystem = 6 "allocator_system",
    /// What of it the program has in use, as the allocator counts: glibc with its own overhead, and with freed blocks that
    /// threads keep for themselves.
    AllocatorInUse = 7 "allocator_in_use",
    /// What of it lies in blocks that are mapped one by one (`hblkhd`).
    AllocatorMapped = 8 "allocator_mapped",
    /// What of it the allocator has given back to the system without giving up the addresses.
    AllocatorReleased = 9 "allocator_released",
    /// Number of the allocator's arenas.
    Arenas = 10 "arenas",
    /// The size from which blocks are mapped one by one; glibc raises it as such blocks are freed. It tells nobody: not
    /// stated by this tracer.
    MapThreshold = 11 "map_threshold",
    /// Anonymous memory that the program has mapped itself and not unmapped, as far as it can be accessed at all: of a
    /// reservation (`PROT_NONE`) the part that has been made accessible. Files and what the allocator maps are not in it.
    Mapped = 12 "mapped",
    /// Number of the program's threads, without the tracer's.
    Threads = 13 "threads",
    /// Address space of the stacks of the threads that the program created and that have not ended, as asked for.
    ThreadStacks = 14 "thread_stacks",
    /// RAM of those stacks; read less often.
    ThreadStacksResident = 15 "thread_stacks_resident",
    /// The smallest memory limit of the process's control groups.
    CgroupLimit = 16 "cgroup_limit",
    /// What is charged to the group with that limit.
    CgroupCurrent = 17 "cgroup_current",
    /// Number of processes that the OOM killer has ended in that group.
    CgroupOomKills = 18 "cgroup_oom_kills",
    /// What of the charge is page cache that can be dropped at no cost (`inactive_file`).
    CgroupInactiveFile = 19 "cgroup_inactive_file",
    /// Number of page faults without reading.
    MinorFaults = 20 "minor_faults",
    /// Number of page faults with reading.
    MajorFaults = 21 "major_faults",
    /// CPU time of the process in nanoseconds, the tracer's included.
    Cpu = 22 "cpu_ns",
    /// CPU time of the tracer in nanoseconds, where it is measured.
    TracerCpu = 23 "tracer_cpu_ns",
    /// Memory of the tracer in RAM: its heap, tables and buffers; read less often.
    TracerMemory = 24 "tracer_memory",
}

impl Vital {
    /// The one with a code; none for those of later versions.
    pub(super) fn of_code(code: u64) -> Option<Vital> {
        Vital::ALL.get(usize::try_from(code).ok()?).copied().filter(|vital| vital.code() == code)
    }
}
