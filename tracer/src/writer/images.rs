//! Turns the modules that hooks have noted into records.

use crate::modules::{self, Identity, Module};
use prof::{Generation, ModuleId, Record, RecordWriter};

/// How far the list has been written.
#[derive(Default)]
pub struct Images {
    /// Those that are thought to be loaded, with their numbers.
    loaded: Vec<(u32, &'static Module)>,
    written: u32,
}

impl Images {
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
            push(records, id, module);
        }
    }
}

fn push(records: &mut RecordWriter, id: u32, module: &Module) {
    let path = match module.path() {
        b"" => std::fs::read_link("/proc/self/exe")
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default(),
        path => String::from_utf8_lossy(path).into_owned(),
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
