//! Any bytes as a file, and any bytes as a payload: reading ends, says what is wrong, and allocates no more than
//! the input can justify.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prof::{BlockKind, Event, EventDecoder, Nanos, ReadError, Reader, Records, varint};

fuzz_target!(|bytes: &[u8]| {
    as_file(bytes);
    let mut rest = bytes;
    let time = Nanos(varint::take(&mut rest).unwrap_or(0));
    assert!(Records::new(time, rest).filter(Result::is_err).count() <= 1);
    as_events(&mut EventDecoder::default(), rest);
});

fn as_file(bytes: &[u8]) {
    let Ok(mut reader) = Reader::new(bytes) else { return };
    let mut decoder = EventDecoder::default();
    loop {
        match reader.next_block() {
            Ok(Some(block)) => match block.kind {
                BlockKind::Records => assert!(block.records().filter(Result::is_err).count() <= 1),
                BlockKind::Events => as_events(&mut decoder, block.payload),
            },
            Ok(None) => break assert_eq!(reader.offset(), bytes.len() as u64),
            Err(ReadError::Io(error)) => panic!("memory does not fail: {error}"),
            Err(_) => break assert!(reader.offset() <= bytes.len() as u64),
        }
    }
}

fn as_events(decoder: &mut EventDecoder, mut input: &[u8]) {
    while let Ok(Some(event)) = decoder.next(&mut input) {
        if let Event::Alloc { kept, site, .. } | Event::Realloc { kept, site, .. } = event {
            assert!(kept + decoder.pushed(site).len() <= prof::MAX_DEPTH + 1);
        }
    }
}
