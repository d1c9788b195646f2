use super::*;
use prof::ModuleId;
use prof::record::Identity;
use proptest::prelude::*;
use std::collections::HashMap;

fn add(stacks: &mut Stacks, id: u32, first: u32, start: u64) {
    let ranges = [(start, 0x1000)];
    stacks.modules.add(ModuleId(id), Generation(first), start, Identity::Unknown, "/lib/x.so", &ranges);
}

fn places(stacks: &Stacks, stack: Stack) -> Vec<Place> {
    stacks.path(stack).map(|(_, site)| stacks.place(site)).collect()
}

proptest! {
    #[test]
    fn is_a_map_of_parent_and_address(
        // Few addresses under any parent, or many under few: both make first, recent and other children.
        acts in prop::collection::vec((0..40usize, prop_oneof![0..4u64, 0..300u64], 0..3u32), 0..2000)
    ) {
        let mut stacks = Stacks::default();
        let mut model = HashMap::new();
        let mut all = vec![Stack::EMPTY];
        for (parent, address, generation) in acts {
            // In every generation the same modules: none.
            let parent = all[parent * (all.len() - 1) / 40];
            let stack = stacks.push(parent, address, Generation(generation));
            prop_assert_eq!(*model.entry((parent, address)).or_insert(stack), stack);
            if stack.number() == all.len() {
                all.push(stack);
            }
            prop_assert_eq!(stacks.len(), all.len() - 1);
            prop_assert_eq!(stacks.len(), model.len());
            let mut path = stacks.path(stack);
            prop_assert_eq!(path.next().map(|(node, _)| node), Some(stack));
            prop_assert_eq!(path.next().map_or(Stack::EMPTY, |(node, _)| node), parent);
        }
    }
}

#[test]
fn equal_stacks_are_one_node_while_their_modules_stay() {
    let mut stacks = Stacks::default();
    add(&mut stacks, 0, 0, 0x1000);
    let a = stacks.push(Stack::EMPTY, 0x1010, Generation(0));
    let b = stacks.push(a, 0x1020, Generation(0));
    add(&mut stacks, 1, 1, 0x9000);
    assert_eq!(stacks.push(Stack::EMPTY, 0x1010, Generation(1)), a);
    assert_eq!(stacks.push(a, 0x1020, Generation(1)), b);
    assert_eq!(stacks.len(), 2);
    let module = stacks.modules.find(0x1010, Generation(0)).unwrap();
    assert_eq!(places(&stacks, b), [Place::Module(module, 0x1f), Place::Module(module, 0x0f)]);
}

#[test]
fn another_module_at_the_same_address_is_another_node() {
    let mut stacks = Stacks::default();
    add(&mut stacks, 0, 0, 0x1000);
    let old = stacks.push(Stack::EMPTY, 0x1010, Generation(0));
    stacks.modules.end(ModuleId(0), Generation(1));
    add(&mut stacks, 1, 1, 0x1000);
    let new = stacks.push(Stack::EMPTY, 0x1010, Generation(1));
    assert_ne!(old, new);
    assert_eq!(stacks.push(Stack::EMPTY, 0x1010, Generation(0)), old);
    assert_ne!(places(&stacks, old), places(&stacks, new));
}

#[test]
fn a_module_that_is_found_late_still_gives_its_name() {
    let mut stacks = Stacks::default();
    let early = stacks.push(Stack::EMPTY, 0x1010, Generation(0));
    assert_eq!(places(&stacks, early), [Place::Unknown(0x100f)]);
    add(&mut stacks, 0, 1, 0x1000);
    assert!(matches!(places(&stacks, early)[..], [Place::Module(_, 0x0f)]));
}

#[test]
fn truncation_is_not_an_address() {
    let mut stacks = Stacks::default();
    add(&mut stacks, 0, 0, 0);
    let stack = stacks.push(Stack::EMPTY, TRUNCATED, Generation(0));
    assert_eq!(places(&stacks, stack), [Place::Truncated]);
}
