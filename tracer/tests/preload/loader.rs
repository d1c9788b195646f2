//! The dynamic loader: its lock, its order, and addresses that it uses again.

use crate::harness::{Case, compiled};

#[test]
fn plugins_take_turns_at_one_address() {
    let plugin = |name: &str, frame: u32| {
        let (name_flag, frame_flag) = (format!("-DNAME={name}"), format!("-DFRAME={frame}"));
        let flags = ["-fPIC", "-shared", &name_flag, &frame_flag];
        compiled("dlopen_plugin.c", &format!("plugin_{name}.so"), &flags).display().to_string()
    };
    let case = Case::new("dlopen_loop.c").arg(plugin("a", 200)).arg(plugin("b", 600));
    case.unchanged().exact().rooted_in("main");
}

#[test]
fn allocates_while_another_thread_holds_the_loader_lock() {
    let traced = Case::new("loader_lock.c").unchanged().exact();
    assert!(traced.outcome.stdout.contains("malloc did not need the loader lock"));
}

#[test]
fn allocates_before_main_and_after_it() {
    let library = compiled("early_library.c", "early_library.so", &["-fPIC", "-shared"]);
    let program = compiled("early.c", "early", &[library.to_str().unwrap()]);
    Case::of(program).unchanged().exact();
}
