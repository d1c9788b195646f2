//! A `.prof` file: reading it block by block.

use crate::survey::Survey;
use prof::read::What;
use prof::record::BadRecord;
use prof::{BlockKind, Damage, ReadError, Reader};
use std::fs::File;
use std::io::{self, Cursor, Read, Seek};
use std::path::{Path, PathBuf};
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
    pub fn read(&self, limit: u64) -> Result<Reader<impl Read + '_>, ReadError> {
        Reader::new(self.open()?.take(limit))
    }

    fn open(&self) -> io::Result<Box<dyn ReadSeek + '_>> {
        Ok(match &self.source {
            Source::File => Box::new(open(&self.path)?),
            Source::Memory(bytes) => Box::new(Cursor::new(&bytes[..])),
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
        let mut reader = Reader::new(self.open()?)?;
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
