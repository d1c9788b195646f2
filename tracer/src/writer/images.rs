//! Turns the modules that hooks have noted into records.

use crate::modules::{self, Identity, Module};
use prof::{Generation, ModuleId, Record, RecordWriter};

/// How far the list has been written.
pub struct Images {
    /// The path of the main program, which has no name in the list. The kernel forgets it with the main thread.
    executable: String,
    /// Those that are thought to be loaded, with their numbers.
    loaded: Vec<(u32, &'static Module)>,
    written: u32,
}

impl Images {
    /// Nothing has been written.
    pub fn new(executable: &str) -> Images {
        Images { executable: executable.to_owned(), loaded: Vec::new(), written: 0 }
    }

    /// Appends what is new.
    pub fn push(&mut self, records: &mut RecordWriter) {
        for module in modules::seen().skip(self.written as usize) {
            let id = self.written;
            self.written += 1;
            self.loaded.retain(|&(old, other)| {
                let gone = module.overlaps(other);
                if gone {
                    let generation = Generation(module.generation);
                    records.push(&Record::ModuleGone { id: ModuleId(old), generation });
                }
                !gone
            });
            self.loaded.push((id, module));
            push(records, id, module, &self.executable);
        }
    }
}

fn push(records: &mut RecordWriter, id: u32, module: &Module, executable: &str) {
    let path = match module.path() {
        b"" => executable.into(),
        path => String::from_utf8_lossy(path),
    };
    let identity = match &module.identity {
        Identity::BuildId(bytes, len) => prof::Identity::BuildId(bytes.get(..*len).unwrap_or(bytes)),
        Identity::Content(hash) => prof::Identity::Content(*hash),
        Identity::Unknown => prof::Identity::Unknown,
    };
    records.push(&Record::Module {
        id: ModuleId(id),
        generation: Generation(module.generation),
        bias: module.bias,
        identity,
        path: &path,
        ranges: module.ranges().collect(),
    });
}
