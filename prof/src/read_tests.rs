use super::*;
use crate::{Record, RecordWriter};

fn sample_file() -> Vec<u8> {
    let mut file = Header::new([7; 16]).to_bytes().to_vec();
    for i in 1..4u64 {
        let time = Nanos(i * 1_000);
        let mut records = RecordWriter::new(time);
        records.push(&Record::Mark { time: Nanos(i), name: "model" });
        records.push(&Record::Complete { time });
        block::write(&mut file, BlockKind::Records, time, records.payload());
    }
    file
}

fn read_all(file: &[u8]) -> (usize, Result<(), ReadError>) {
    let mut blocks = 0;
    let mut reader = match Reader::new(file) {
        Ok(reader) => reader,
        Err(error) => return (0, Err(error)),
    };
    loop {
        match reader.next_block() {
            Ok(Some(block)) => blocks += usize::from(block.records().all(|record| record.is_ok())),
            Ok(None) => return (blocks, Ok(())),
            Err(error) => return (blocks, Err(error)),
        }
    }
}

#[test]
fn every_prefix_is_read_up_to_its_last_whole_block() {
    let file = sample_file();
    let block_len = (file.len() - header::LEN) / 3;
    for len in 0..=file.len() {
        let (blocks, result) = read_all(&file[..len]);
        assert_eq!(blocks, len.saturating_sub(header::LEN) / block_len, "prefix of {len} bytes");
        let whole = len >= header::LEN && (len - header::LEN).is_multiple_of(block_len);
        match result {
            Ok(()) => assert!(whole, "prefix of {len} bytes"),
            Err(ReadError::Empty) => assert_eq!(len, 0),
            Err(ReadError::Damaged(Damage::Cut { offset, bytes })) => {
                assert!(!whole);
                assert_eq!(offset + bytes, len as u64);
            }
            Err(other) => panic!("prefix of {len} bytes: {other}"),
        }
    }
}

#[test]
fn passing_over_events_finds_the_same_blocks_and_the_same_end() {
    let mut file = sample_file();
    for i in 4..7u64 {
        block::write(&mut file, BlockKind::Events, Nanos(i), &vec![i as u8; i as usize * 7]);
        let mut records = RecordWriter::new(Nanos(i));
        records.push(&Record::Complete { time: Nanos(i) });
        block::write(&mut file, BlockKind::Records, Nanos(i), records.payload());
    }
    for len in header::LEN..=file.len() {
        let mut whole = Reader::new(&file[..len]).unwrap();
        let mut passing = Reader::new(io::Cursor::new(&file[..len])).unwrap();
        loop {
            match (whole.next_block(), passing.next_records()) {
                (Ok(Some(a)), Ok(Some(b))) => {
                    assert_eq!((a.kind, a.time, a.payload_offset), (b.kind, b.time, b.payload_offset));
                    let expected = if a.kind == BlockKind::Events { &[] } else { a.payload };
                    assert_eq!(b.payload, expected);
                }
                (Ok(None), Ok(None)) => break,
                (Err(a), Err(b)) => {
                    assert_eq!(a.to_string(), b.to_string());
                    break;
                }
                (a, b) => panic!("prefix of {len} bytes: {a:?}, {b:?}"),
            }
            assert_eq!(whole.offset(), passing.offset());
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let file = sample_file();
    for at in 0..file.len() {
        let mut bad = file.clone();
        bad[at] ^= 0x10;
        let zero_or_run = (12..header::LEN).contains(&at);
        assert_eq!(read_all(&bad).1.is_err(), !zero_or_run, "byte {at}");
    }
}

#[test]
fn foreign_and_newer_files_are_told_apart() {
    let mut newer = sample_file();
    newer[8] = 9;
    assert!(matches!(read_all(&newer).1, Err(ReadError::Newer(9))));
    assert!(matches!(read_all(b"\x7fELF, and not a profile at all, really").1, Err(ReadError::Foreign)));
    assert!(matches!(read_all(b"heap").1, Err(ReadError::Foreign)));
}
