use super::*;
use proptest::prelude::*;

const TIME: Nanos = Nanos(1 << 40);

fn record() -> impl Strategy<Value = Record<'static>> {
    let text = prop_oneof![Just(""), Just("serving"), Just("größer")];
    let identity = prop_oneof![
        Just(Identity::Unknown),
        Just(Identity::BuildId(b"\x01\x02\x03")),
        any::<u64>().prop_map(Identity::Content),
    ];
    let time = (0..=TIME.0).prop_map(Nanos);
    let float = 0.0..1e18f32;
    prop_oneof![
        (text.clone(), text.clone()).prop_map(|(key, value)| Record::Fact { key, value }),
        (any::<[u32; 2]>(), any::<u64>(), identity, text.clone(), any::<Vec<(u64, u64)>>()).prop_map(
            |([id, generation], bias, identity, path, ranges)| Record::Module {
                id: ModuleId(id),
                generation: Generation(generation),
                bias,
                identity,
                path,
                ranges
            }
        ),
        any::<[u32; 2]>().prop_map(|[id, generation]| Record::ModuleGone {
            id: ModuleId(id),
            generation: Generation(generation)
        }),
        (any::<[u32; 2]>(), time.clone(), text.clone()).prop_map(|([thread, tid], start, name)| {
            Record::Thread { thread: ThreadIndex(thread), tid, start, name }
        }),
        (any::<u32>(), time.clone())
            .prop_map(|(thread, time)| Record::ThreadEnd { thread: ThreadIndex(thread), time }),
        any::<u32>().prop_map(|generation| Record::Generation(Generation(generation))),
        (any::<u32>(), any::<u64>())
            .prop_map(|(parent, address)| Record::Node { parent: NodeId(parent), address }),
        (any::<[u32; 2]>(), time.clone(), any::<[u64; 2]>()).prop_map(
            |([node, thread], time, [size, interval])| Record::Sample {
                node: NodeId(node),
                thread: ThreadIndex(thread),
                time,
                size,
                interval
            }
        ),
        (any::<u64>(), time.clone()).prop_map(|(sample, time)| Record::Freed { sample, time }),
        (any::<u32>(), float.clone(), float).prop_map(|(node, blocks, bytes)| Record::Folded {
            node: NodeId(node),
            blocks,
            bytes
        }),
        (0..3usize, any::<u64>())
            .prop_map(|(reason, events)| Record::Lost { reason: Lost::ALL[reason], events }),
        (time.clone(), any::<u64>()).prop_map(|(time, bytes)| Record::Interval { time, bytes }),
        (time.clone(), text.clone()).prop_map(|(time, name)| Record::Mark { time, name }),
        (time.clone(), any::<RunId>(), text.clone(), any::<u64>())
            .prop_map(|(time, run, path, bytes)| Record::Fork { time, run, path, bytes }),
        (time.clone(), text.clone(), any::<[u64; 3]>()).prop_map(|(time, path, [number, blocks, bytes])| {
            Record::Segment { time, number, path, blocks, bytes }
        }),
        (time.clone(), prop::collection::vec((0..Vital::ALL.len(), any::<u64>()), 0..9)).prop_map(
            |(time, values)| Record::Vitals {
                time,
                values: values.into_iter().map(|(vital, value)| (Vital::ALL[vital], value)).collect(),
            }
        ),
        (time.clone(), any::<u32>(), any::<[u64; 2]>())
            .prop_map(|(time, arena, [system, free])| Record::Arena { time, arena, system, free }),
        (0..2usize, any::<u32>(), time.clone(), any::<[u64; 3]>()).prop_map(
            |(resource, node, time, [acquired, released, bytes])| Record::Held {
                resource: Resource::ALL[resource],
                node: NodeId(node),
                time,
                acquired,
                released,
                bytes
            }
        ),
        time.prop_map(|time| Record::Complete { time }),
        text.prop_map(|reason| Record::End { reason }),
    ]
}

proptest! {
    #[test]
    fn reads_what_was_written(records in prop::collection::vec(record(), 0..30)) {
        let mut writer = RecordWriter::new(TIME);
        records.iter().for_each(|record| writer.push(record));
        let back = Records::new(TIME, writer.payload()).collect::<Result<Vec<_>, _>>().unwrap();
        prop_assert_eq!(back, records);
    }

    #[test]
    fn reading_is_total(bytes: Vec<u8>) {
        let bad = Records::new(TIME, &bytes).filter(Result::is_err).count();
        prop_assert!(bad <= 1);
    }
}

#[test]
fn an_unknown_kind_is_named_with_its_place() {
    let mut writer = RecordWriter::new(TIME);
    writer.push(&Record::Generation(Generation(3)));
    let mut payload = writer.payload().to_vec();
    payload.extend_from_slice(&[0x7e, 0, 0]);
    let last = Records::new(TIME, &payload).last();
    assert_eq!(last, Some(Err(BadRecord { at: 2, unknown_kind: Some(0x7e) })));
}

#[test]
fn a_vital_of_a_later_version_is_passed_over() {
    let payload = [VITALS, 0, 2, 100, 7, 13, 42];
    let records: Vec<_> = Records::new(TIME, &payload).collect();
    assert_eq!(records, [Ok(Record::Vitals { time: TIME, values: vec![(Vital::Threads, 42)] })]);
}
