//! A `.prof` file: reading it block by block.

use crate::survey::Survey;
use prof::read::What;
use prof::record::BadRecord;
use prof::{BlockKind, Damage, ReadError, Reader};
use std::fs::File;
use std::io::{self, Cursor, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

/// Where the bytes are; it can be read several times.
#[derive(Clone, Debug)]
pub struct Profile {
    path: PathBuf,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    File,
    Memory(Arc<[u8]>),
}

impl Profile {
    /// The file at `path`; it is opened when it is read.
    pub fn at(path: &Path) -> Profile {
        Profile { path: path.to_owned(), source: Source::File }
    }

    /// Bytes in memory, named `path` in what is said about them.
    pub fn in_memory(path: &Path, bytes: impl Into<Arc<[u8]>>) -> Profile {
        Profile { path: path.to_owned(), source: Source::Memory(bytes.into()) }
    }

    /// Its name, as typed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A reader of its first `limit` bytes.
    pub fn read(&self, limit: u64) -> Result<Reader<impl Read + use<>>, ReadError> {
        Ok(self.open(limit)?.0)
    }

    /// A reader of its first `limit` bytes, and the same file to read parts of it again.
    pub fn open(&self, limit: u64) -> Result<(Reader<impl Read + use<>>, Rc<Store>), ReadError> {
        let store = self.store()?;
        Ok((Reader::new(store.stream()?.take(limit))?, Rc::new(store)))
    }

    fn store(&self) -> io::Result<Store> {
        Ok(match &self.source {
            Source::File => Store::File(open(&self.path)?),
            Source::Memory(bytes) => Store::Memory(bytes.clone()),
        })
    }

    /// Reads everything except the events themselves.
    ///
    /// # Errors
    /// Where nothing can be read. Damage after the first sound record is not an error but a fact of the survey.
    pub fn survey(&self) -> Result<Survey, ReadError> {
        self.survey_how(true)
    }

    /// As [`survey`](Self::survey), but passes over the events: that their blocks are sound is found out when they
    /// are read.
    ///
    /// # Errors
    /// As `survey`.
    pub fn skim(&self) -> Result<Survey, ReadError> {
        self.survey_how(false)
    }

    fn survey_how(&self, is_checked: bool) -> Result<Survey, ReadError> {
        let mut reader = Reader::new(self.store()?.stream()?)?;
        let mut survey = Survey::new(reader.header(), is_checked);
        let damage = loop {
            match if is_checked { reader.next_block() } else { reader.next_records() } {
                Ok(Some(block)) => {
                    survey.blocks += 1;
                    survey.last_block = block.time;
                    survey.sound_bytes = block.payload_offset + block.payload_len;
                    if block.kind == BlockKind::Events {
                        survey.event_bytes += block.payload_len;
                        continue;
                    }
                    let bad = block.records().find_map(|record| match record {
                        Ok(record) => {
                            survey.note(&record);
                            None
                        }
                        Err(bad) => Some(damage_of(bad, block.payload_offset)),
                    });
                    if bad.is_some() {
                        break bad;
                    }
                }
                Ok(None) => break None,
                Err(ReadError::Damaged(damage)) => break Some(damage),
                Err(other) => return Err(other),
            }
        };
        if let (Some(damage), true) = (damage, survey.is_empty()) {
            return Err(ReadError::Damaged(damage));
        }
        survey.damage = damage;
        Ok(survey)
    }
}

/// An opened profile, of which any part can be read at any time.
#[derive(Debug)]
pub enum Store {
    /// On disk.
    File(File),
    /// All of it.
    Memory(Arc<[u8]>),
}

impl Store {
    /// From its beginning.
    fn stream(&self) -> io::Result<Box<dyn ReadSeek>> {
        Ok(match self {
            Store::File(file) => Box::new(file.try_clone()?),
            Store::Memory(bytes) => Box::new(Cursor::new(bytes.clone())),
        })
    }

    /// Fills `out` with what stands from `offset` on.
    ///
    /// # Errors
    /// Where the file cannot be read, or ends before.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self {
            Store::File(file) => file.read_exact_at(out, offset),
            Store::Memory(bytes) => {
                let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..));
                rest.unwrap_or(&[]).read_exact(out)
            }
        }
    }
}

/// Any source of bytes.
trait ReadSeek: Read + Seek {}

impl<T: Read + Seek> ReadSeek for T {}

/// A directory opens, and only fails when it is read: said here already.
fn open(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(file)
}

/// A bad record as damage of the file.
pub fn damage_of(bad: BadRecord, payload_offset: u64) -> Damage {
    let what = match bad.unknown_kind {
        Some(kind) => What::RecordKind(kind),
        None => What::Malformed("malformed record"),
    };
    Damage::Corrupt { offset: payload_offset + bad.at as u64, what }
}
