//! The memory limit of the process's control groups, of version 2 or 1: the smallest one on the way from the process's
//! group to the root of what is mounted, and what is charged to the group that has it.

use prof::record::Vital;
use std::path::{Path, PathBuf};

/// From here on a limit of version 1 is none: it then says the largest number of whole pages.
const NO_LIMIT: u64 = 1 << 60;

/// How the files of a version are called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Files {
    limit: &'static str,
    current: &'static str,
    /// Where the number of processes that were killed is.
    events: &'static str,
    /// The key in `memory.stat`.
    inactive_file: &'static str,
}

const VERSION_2: Files = Files {
    limit: "memory.max",
    current: "memory.current",
    events: "memory.events",
    inactive_file: "inactive_file",
};

const VERSION_1: Files = Files {
    limit: "memory.limit_in_bytes",
    current: "memory.usage_in_bytes",
    events: "memory.oom_control",
    inactive_file: "total_inactive_file",
};

/// The groups of the process, innermost first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Groups(Vec<(PathBuf, Files)>);

impl Groups {
    /// Looks up the groups of the process whose folder is `proc`; what is mounted lies below `root`.
    pub fn of(proc: &Path, root: &Path) -> Groups {
        let read = |name| std::fs::read_to_string(proc.join(name)).unwrap_or_default();
        let (memberships, mounts) = (read("cgroup"), read("mountinfo"));
        let mut groups = Vec::new();
        for files in [VERSION_2, VERSION_1] {
            let group = memberships.lines().find_map(|line| membership(line, files));
            let Some((group, mount)) = group.zip(mounts.lines().find_map(|line| mount(line, files))) else {
                continue;
            };
            let top = root.join(mount.point.trim_start_matches('/'));
            // A group outside of what is mounted is seen as the mount's root.
            let below = match mount.root.as_str() {
                "/" => Some(group),
                root => group.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with('/')),
            };
            let below = below.filter(|path| !path.split('/').any(|part| part == "..")).unwrap_or("");
            let innermost = top.join(below.trim_start_matches('/'));
            let way = innermost.ancestors().take_while(|path| path.starts_with(&top));
            groups.extend(way.map(|path| (path.to_owned(), files)));
        }
        Groups(groups)
    }

    /// What the group with the smallest limit says; nothing where there is no limit.
    pub fn read(&self) -> Vec<(Vital, u64)> {
        let limits = self.0.iter().filter_map(|(path, files)| {
            let text = std::fs::read_to_string(path.join(files.limit)).ok()?;
            let limit = text.trim().parse().ok().filter(|&limit| limit < NO_LIMIT)?;
            Some((limit, path, files))
        });
        let Some((limit, path, files)) = limits.min_by_key(|&(limit, ..)| limit) else { return Vec::new() };
        let read = |name| std::fs::read_to_string(path.join(name)).unwrap_or_default();
        let keyed = |text: String, key| {
            let find = |line: &str| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok();
            text.lines().find_map(find)
        };
        let values = [
            (Vital::CgroupLimit, Some(limit)),
            (Vital::CgroupCurrent, read(files.current).trim().parse().ok()),
            (Vital::CgroupOomKills, keyed(read(files.events), "oom_kill")),
            (Vital::CgroupInactiveFile, keyed(read("memory.stat"), files.inactive_file)),
        ];
        values.into_iter().filter_map(|(vital, value)| Some((vital, value?))).collect()
    }
}

/// The group that a line of `/proc/self/cgroup` names, `ID:CONTROLLERS:PATH`, if it is the one that memory is charged to.
fn membership(line: &str, files: Files) -> Option<&str> {
    let (id, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    let is_it = match files {
        VERSION_2 => id == "0" && controllers.is_empty(),
        _ => controllers.split(',').any(|name| name == "memory"),
    };
    is_it.then_some(path)
}

/// Where a hierarchy is mounted, and which of its groups is the root there.
struct Mount {
    root: String,
    point: String,
}

/// A line of `/proc/self/mountinfo`, if it is of the hierarchy that memory is charged to.
fn mount(line: &str, files: Files) -> Option<Mount> {
    let (mount, system) = line.split_once(" - ")?;
    let mut system = system.split(' ');
    let kind = system.next()?;
    let options = system.nth(1)?;
    let is_it = match files {
        VERSION_2 => kind == "cgroup2",
        _ => kind == "cgroup" && options.split(',').any(|name| name == "memory"),
    };
    let mut fields = mount.split(' ').skip(3);
    is_it.then_some(Mount { root: unescaped(fields.next()?), point: unescaped(fields.next()?) })
}

/// Spaces and the like stand there as three octal digits behind a backslash.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                result.push(byte.into());
                result.push_str(part.get(3..).unwrap_or_default());
            }
            None => {
                result.push('\\');
                result.push_str(part);
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    /// A made-up system: files by their path.
    fn system(files: &[(&str, &str)]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        folder
    }

    fn read(files: &[(&str, &str)]) -> Vec<(Vital, u64)> {
        let system = system(files);
        Groups::of(&system.path().join("proc"), system.path()).read()
    }

    const UNIFIED: &str = "25 20 0:22 / / rw - ext4 /dev/sda rw\n\
        30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_smallest_limit_on_the_way_up() {
        let values = read(&[
            ("proc/cgroup", "0::/pod/container/init\n"),
            ("proc/mountinfo", UNIFIED),
            ("sys/fs/cgroup/memory.stat", "anon 1\n"),
            ("sys/fs/cgroup/pod/memory.max", "1000000\n"),
            ("sys/fs/cgroup/pod/memory.current", "900000\n"),
            ("sys/fs/cgroup/pod/container/memory.max", "500000\n"),
            ("sys/fs/cgroup/pod/container/memory.current", "400000\n"),
            ("sys/fs/cgroup/pod/container/memory.events", "low 0\nhigh 0\nmax 9\noom 2\noom_kill 3\n"),
            ("sys/fs/cgroup/pod/container/memory.stat", "anon 7\ninactive_file 1234\nworkingset 8\n"),
            ("sys/fs/cgroup/pod/container/init/memory.max", "max\n"),
            ("sys/fs/cgroup/pod/container/init/memory.current", "1\n"),
        ]);
        let expected = [
            (Vital::CgroupLimit, 500_000),
            (Vital::CgroupCurrent, 400_000),
            (Vital::CgroupOomKills, 3),
            (Vital::CgroupInactiveFile, 1234),
        ];
        assert_eq!(values, expected);
    }

    #[test]
    fn in_a_container_the_group_is_the_root() {
        let files = [("sys/fs/cgroup/memory.max", "77\n"), ("sys/fs/cgroup/memory.current", "55\n")];
        for group in ["0::/\n", "0::/../other\n"] {
            let system = [("proc/cgroup", group), ("proc/mountinfo", UNIFIED), files[0], files[1]];
            assert_eq!(read(&system), [(Vital::CgroupLimit, 77), (Vital::CgroupCurrent, 55)]);
        }
    }

    #[test]
    fn version_1_whose_mount_begins_at_the_containers_group() {
        let mounts = "40 30 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            41 40 0:29 /docker/abc /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
            42 40 0:32 /docker/abc /sys/fs/cgroup/mem\\040ory rw shared:1 master:2 - cgroup cgroup rw,memory\n\
            43 40 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let values = read(&[
            ("proc/cgroup", "4:memory:/docker/abc/task\n3:cpu,cpuacct:/docker/abc\n0::/\n"),
            ("proc/mountinfo", mounts),
            ("sys/fs/cgroup/mem ory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/mem ory/task/memory.limit_in_bytes", "4096000\n"),
            ("sys/fs/cgroup/mem ory/task/memory.usage_in_bytes", "3072000\n"),
            (
                "sys/fs/cgroup/mem ory/task/memory.oom_control",
                "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
            ),
            ("sys/fs/cgroup/mem ory/task/memory.stat", "inactive_file 5\ntotal_inactive_file 6\n"),
        ]);
        let expected = [
            (Vital::CgroupLimit, 4_096_000),
            (Vital::CgroupCurrent, 3_072_000),
            (Vital::CgroupOomKills, 1),
            (Vital::CgroupInactiveFile, 6),
        ];
        assert_eq!(values, expected);
    }

    #[test]
    fn no_limit_or_no_files_say_nothing() {
        let unlimited = [
            ("proc/cgroup", "4:memory:/\n"),
            ("proc/mountinfo", "42 40 0:32 / /memory rw - cgroup cgroup rw,memory\n"),
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/memory.usage_in_bytes", "3072000\n"),
        ];
        assert_eq!(read(&unlimited), []);
        assert_eq!(read(&unlimited[..2]), []);
        assert_eq!(read(&[]), []);
        assert_eq!(
            read(&[("proc/cgroup", ":\n0:\nx"), ("proc/mountinfo", " - cgroup2\na b - cgroup2 x rw")]),
            []
        );
    }
}
