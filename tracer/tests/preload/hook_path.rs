//! What hooks may do, read off the library's machine code: an unrecorded call is a few instructions and the jump to the
//! real function; and nothing that a recorded one can reach allocates, locks or calls the loader, but for what is listed
//! here with the reason.

use crate::code::{Code, Target};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The hooks' slow paths.
const RECORDERS: [&str; 5] = [
    "trace::record::alloc",
    "trace::record::posix_memalign",
    "trace::record::free",
    "trace::record::realloc_begin",
    "trace::record::realloc",
];

/// Functions of other libraries that recorders may call.
const IMPORTS: &[(&str, &str)] = &[
    ("__errno_location", "an address in the thread's static TLS"),
];

/// Functions where the walk stops, by the beginning of their names.
const COLD: &[(&str, &str)] = &[
    ("core::panicking::", "a panic is a bug"),
];

/// Functions that may call what a variable points to.
const POINTERS: &[(&str, &str)] = &[];

/// Everything that can be reached, and from where.
struct Reached {
    from: BTreeMap<Target, u64>,
}

impl Reached {
    fn walk(code: &Code, roots: &[&str], stops: &[(&str, &str)]) -> Reached {
        let mut from = BTreeMap::new();
        let mut queue: VecDeque<_> = roots.iter().map(|name| code.find(name)).collect();
        let mut seen: BTreeSet<_> = queue.iter().copied().collect();
        while let Some(function) = queue.pop_front() {
            for target in code.targets(function) {
                if let Target::Own(at) = target {
                    let name = code.name(at);
                    if stops.iter().any(|(stop, _)| name.starts_with(stop)) || !seen.insert(at) {
                        continue;
                    }
                    queue.push_back(at);
                }
                from.entry(target).or_insert(function);
            }
        }
        Reached { from }
    }

    /// From a root to `function`, for a person.
    fn way(&self, code: &Code, mut function: u64) -> String {
        let mut way = code.name(function).to_owned();
        while let Some(&caller) = self.from.get(&Target::Own(function)) {
            way = format!("{} > {way}", code.name(caller));
            function = caller;
        }
        way
    }

    fn imports(&self) -> BTreeSet<&str> {
        let name = |target| match target {
            &Target::Import(ref name) => Some(name.as_str()),
            _ => None,
        };
        self.from.keys().filter_map(name).collect()
    }
}

#[test]
fn recorders_allocate_nothing_and_take_no_lock() {
    let code = Code::read();
    let reached = Reached::walk(&code, &RECORDERS, COLD);
    let mut wrong = String::new();
    for (target, &function) in &reached.from {
        let allowed = match target {
            Target::Own(_) => true,
            Target::Import(name) => IMPORTS.iter().any(|(allowed, _)| allowed == name),
            Target::Pointer(_) => POINTERS.iter().any(|(allowed, _)| code.name(function) == *allowed),
        };
        if !allowed {
            wrong += &format!("{target:?}: {}\n", reached.way(&code, function));
        }
    }
    assert!(wrong.is_empty(), "a hook can reach:\n{wrong}");
}
