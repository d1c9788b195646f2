use super::*;
use crate::profile::damage_of;
use crate::synthetic::{File, Log, SECOND, chain};
use prof::{BlockKind, Reader, ThreadIndex};

/// Every change of a file as (time, key, size), with `None` where a block died.
fn changes(file: &[u8]) -> Result<Vec<(u64, u64, Option<u64>)>, Damage> {
    let mut order = Order::default();
    let mut changes = Vec::new();
    let mut sink = |some: &[Change], _: &Origins| {
        let size = |change: &Change| change.birth.map(|birth| birth.size);
        changes.extend(some.iter().map(|change| (change.time.0, change.key & !SAMPLE_KEY, size(change))));
    };
    let mut reader = Reader::new(file).unwrap();
    while let Some(block) = reader.next_block().unwrap() {
        if block.kind == BlockKind::Events {
            order.events(block.payload_offset, block.payload.to_vec(), None)?;
            continue;
        }
        for record in block.records() {
            match record.map_err(|bad| damage_of(bad, block.payload_offset))? {
                Record::Complete { time } => order.release(Some(time), &mut sink)?,
                record => order.record(&record).map_err(|what| Damage::Corrupt {
                    offset: block.payload_offset,
                    what: What::Malformed(what),
                })?,
            }
        }
    }
    order.release(None, &mut sink)?;
    Ok(changes)
}

#[test]
fn rounds_hold_what_may_still_be_preceded() {
    let mut file = File::new(1);
    let (mut one, mut two) = (Log::new(1), Log::new(2));
    for stamp in [3, 5, 9] {
        one.alloc(stamp, stamp, 1, &[0x10]);
    }
    for stamp in [4, 6, 8, 12] {
        two.alloc(stamp, stamp, 2, &[0x20]);
    }
    file.events(13, &mut one).events(13, &mut two).complete(8);
    one.alloc(10, 10, 1, &[0x10]).alloc(11, 11, 1, &[0x10]);
    file.events(14, &mut one).complete(12);
    let times: Vec<u64> = changes(&file.0).unwrap().into_iter().map(|(time, ..)| time).collect();
    assert_eq!(times, [3, 4, 5, 6, 8, 9, 10, 11, 12]);
}

#[test]
fn a_realloc_is_a_death_and_a_birth_with_room_between() {
    let mut file = File::new(1);
    let (mut one, mut two) = (Log::new(1), Log::new(2));
    one.alloc(0xa0, 1, 10, &[0x10]).realloc((0xa0, 2), (0xb0, 9), 20, &[0x10]);
    two.alloc(0xa0, 5, 30, &[0x20]);
    file.events(10, &mut one).events(10, &mut two);
    let expected = [(1, 0xa0, Some(10)), (2, 0xa0, None), (5, 0xa0, Some(30)), (9, 0xb0, Some(20))];
    assert_eq!(changes(&file.0).unwrap(), expected);
}

#[test]
fn deaths_come_first_at_one_instant() {
    let mut file = File::new(1);
    let (mut one, mut two) = (Log::new(1), Log::new(2));
    one.alloc(0xa0, 7, 1, &[0x10]);
    two.free(0xa0, 7);
    file.events(10, &mut one).events(10, &mut two);
    assert_eq!(changes(&file.0).unwrap(), [(7, 0xa0, None), (7, 0xa0, Some(1))]);
}

#[test]
fn samples_and_events_are_one_order() {
    let mut file = File::new(1);
    let mut log = Log::new(1);
    log.alloc(0xa0, 4, 1, &[0x10]);
    file.events(10, &mut log);
    let mut records = chain(1, &[0x40, 0x41]);
    for time in [6, 2] {
        let (node, thread) = (NodeId(2), ThreadIndex(0));
        records.push(Record::Sample { node, thread, time: Nanos(time), size: 5, interval: 100 });
    }
    records.push(Record::Freed { sample: 2, time: Nanos(5) });
    file.records(10, &records);
    let expected = [(2, 2, Some(5)), (4, 0xa0, Some(1)), (5, 2, None), (6, 1, Some(5))];
    assert_eq!(changes(&file.0).unwrap(), expected);
}

#[test]
fn frames_that_are_kept_belong_to_the_new_generation() {
    let mut order = Order::default();
    let module = |id, generation| Record::Module {
        id: prof::ModuleId(id),
        generation: Generation(generation),
        bias: 0x1000 * u64::from(id + 1),
        identity: prof::Identity::Unknown,
        path: "/lib/plugin.so",
        ranges: vec![(0x10_0000, 0x1000)],
    };
    let gone = Record::ModuleGone { id: prof::ModuleId(0), generation: Generation(1) };
    for record in [module(0, 0), gone, module(1, 1)] {
        order.record(&record).unwrap();
    }
    let mut log = Log::new(0);
    let stack = [0x10_0010, 0x10_0020];
    log.alloc(1, 1, 1, &stack).generation(1).alloc(2, 2, 1, &stack);
    let mut file = File::new(1);
    file.events(SECOND, &mut log);
    let mut reader = Reader::new(&file.0[..]).unwrap();
    let block = reader.next_block().unwrap().unwrap();
    order.events(block.payload_offset, block.payload.to_vec(), None).unwrap();
    let mut stacks = Vec::new();
    let births = |change: &Change| change.birth.map(|birth| birth.stack);
    order.release(None, |changes, _| stacks.extend(changes.iter().filter_map(births))).unwrap();
    let leaf = |stack| order.known.stacks.path(stack).map(|(_, site)| order.known.stacks.place(site)).next();
    let svma = |place| match place {
        Some(crate::stacks::Place::Module(_, svma)) => svma,
        other => panic!("{other:?}"),
    };
    assert_eq!(stacks.iter().map(|stack| svma(leaf(*stack))).collect::<Vec<_>>(), [0xff_00f, 0xfe_00f]);
}

#[test]
fn what_is_malformed_is_named_with_its_place() {
    let mut file = File::new(1);
    prof::block::write(&mut file.0, BlockKind::Events, Nanos(1), &[3, 0x7f]);
    let offset = file.0.len() as u64 - 1;
    let what = What::Malformed("unknown event kind");
    assert_eq!(changes(&file.0), Err(Damage::Corrupt { offset, what }));
    for record in
        [Record::Node { parent: NodeId(1), address: 5 }, Record::Freed { sample: 1, time: Nanos(0) }]
    {
        let mut file = File::new(1);
        file.records(1, &[record]);
        assert!(changes(&file.0).is_err());
    }
    let mut deep = File::new(1);
    deep.records(1, &chain(1, &vec![7; MAX_DEPTH + 2]));
    assert!(changes(&deep.0).is_err());
}
