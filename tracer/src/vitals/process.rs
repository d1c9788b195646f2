//! What the kernel keeps count of anyway: memory in RAM by kind, threads, page faults, CPU time.

use crate::{clock, own_thread, stream};
use prof::Nanos;
use prof::record::Vital;
use std::path::Path;

/// Reads it all; `own` is the number of this library's threads. What the system refuses is missing.
pub fn read(proc: &Path, own: u32) -> Vec<(Vital, u64)> {
    let mut values =
        std::fs::read_to_string(proc.join("status")).map_or(Vec::new(), |text| status(&text, own));
    // SAFETY: zero bytes are a valid place for the result.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::getrusage(libc::RUSAGE_SELF, &mut usage) == 0).then_some(usage)
    };
    if let Some(usage) = usage {
        values.push((Vital::MinorFaults, usage.ru_minflt as u64));
        values.push((Vital::MajorFaults, usage.ru_majflt as u64));
    }
    values.push((Vital::Cpu, clock::cpu(libc::CLOCK_PROCESS_CPUTIME_ID).0));
    values.push((Vital::TracerCpu, tracer_cpu().0));
    values
}

/// Of the library's own threads, and what samples have cost the program's.
fn tracer_cpu() -> Nanos {
    let hooks: u64 = stream::all().map(|stream| stream.spent().0).sum();
    Nanos(hooks + own_thread::cpu().0)
}

fn status(text: &str, own: u32) -> Vec<(Vital, u64)> {
    let value = |line: &str| {
        let (key, rest) = line.split_once(':')?;
        let number: u64 = rest.split_whitespace().next()?.parse().ok()?;
        let vital = match key {
            "RssAnon" => Vital::RssAnon,
            "RssFile" => Vital::RssFile,
            "RssShmem" => Vital::RssShmem,
            "VmSwap" => Vital::Swap,
            "Threads" => return Some((Vital::Threads, number.saturating_sub(own.into()))),
            _ => return None,
        };
        Some((vital, number * 1024))
    };
    text.lines().filter_map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_process() {
        let text = "Name:\tRssAnon: 7 kB\nVmRSS:\t 22 kB\nRssAnon:\t      12 kB\nRssFile:\t       8 kB\n\
                    RssShmem:\t       2 kB\nVmSwap:\t       0 kB\nThreads:\t5\nSigQ:\t0/1\n";
        let expected = [
            (Vital::RssAnon, 12288),
            (Vital::RssFile, 8192),
            (Vital::RssShmem, 2048),
            (Vital::Swap, 0),
            (Vital::Threads, 2),
        ];
        assert_eq!(status(text, 3), expected);
        assert_eq!(status("RssAnon:\tmany kB\nThreads:\n\u{7f}", 3), []);
    }

    #[test]
    fn without_proc_there_is_what_needs_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let values = read(folder.path(), 0);
        assert!(values.iter().all(|(vital, _)| *vital >= Vital::MinorFaults), "{values:?}");
    }
}
