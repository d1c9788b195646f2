//! The dynamic loader: its lock, its order, and addresses that it uses again.

use crate::harness::{Case, Stack, compiled, machine};

/// The loader is looked at often; where code is not known as soon as it is loaded, the program waits for that.
fn patient(case: Case) -> Case {
    let case = case.settings(&format!("{},settle=10ms", machine().modes[0]));
    if machine().knows_code_at_once { case } else { case.arg("wait") }
}

/// A library whose functions have `name` in their names, and frames of this many bytes.
fn variant(source: &str, output: &str, name: &str, frame: u32) -> String {
    let (name_flag, frame_flag) = (format!("-DNAME={name}"), format!("-DFRAME={frame}"));
    let flags = ["-fPIC", "-shared", &name_flag, &frame_flag];
    compiled(source, output, &flags).display().to_string()
}

fn plugin(name: &str, frame: u32) -> String {
    variant("dlopen_plugin.c", &format!("plugin_{name}.so"), name, frame)
}

#[test]
fn plugins_take_turns_at_one_address() {
    let rounds = if machine().knows_code_at_once { "200" } else { "40" };
    let case = Case::new("dlopen_loop.c").arg(plugin("a", 200)).arg(plugin("b", 600)).arg(rounds);
    patient(case).unchanged().exact().rooted_in("main");
}

/// What could not be followed at first is not taken for the end of the stack from then on.
#[test]
fn a_plugin_becomes_known() {
    let case = Case::new("known_late.c").arg(plugin("a", 200));
    let traced = case.settings(&format!("{},settle=10ms", machine().modes[0])).unchanged().exact();
    let known_at = if machine().knows_code_at_once { ["at_once", "later"].as_slice() } else { &["later"] };
    for Stack { frames, .. } in known_at.iter().flat_map(|site| traced.stacks_of(site)) {
        let has = |name: &str| frames.iter().any(|frame| frame == name);
        assert!(has("plugin_run") && has("main"), "{frames:#?}");
    }
}

/// What glibc unloads by itself does not come through `dlclose`; code that then took the same place was taken for it.
#[test]
fn a_plugin_takes_the_place_of_what_glibc_has_unloaded() {
    let library = |name, frame| variant("gconv_module.c", &format!("gconv_{name}.so"), name, frame);
    let (module, plugin, other) = (library("a", 200), library("b", 600), library("c", 100));
    let folder = tempfile::tempdir().unwrap();
    let sets = [("ROUND-A", &module), ("ROUND-C", &other)];
    let modules = sets.map(|(name, library)| format!("module {name}// INTERNAL {library} 1\n"));
    std::fs::write(folder.path().join("gconv-modules"), modules.concat()).unwrap();
    let case = Case::of(compiled("gconv_unload.c", "gconv_unload", &["-rdynamic"]));
    let traced = patient(case.arg(folder.path().display().to_string()).arg(module).arg(plugin)).unchanged();
    let reused = if machine().uses_places_again { "mostly" } else { "" };
    let expected = format!("unloaded: 5 of 5; its place was reused: {reused}");
    assert!(traced.outcome.stdout.starts_with(&expected), "{}", traced.outcome.stdout);
    traced.exact().rooted_in("main");
}

#[test]
fn allocates_while_another_thread_holds_the_loader_lock() {
    let traced = Case::new("loader_lock.c").unchanged().exact();
    assert!(traced.outcome.stdout.contains("malloc did not need the loader lock"));
}

#[test]
fn forks_and_ends_while_a_thread_has_the_loader_lock_for_ever() {
    let settings = &format!("{},settle=10ms", machine().modes[0]);
    Case::new("loader_lock_exit.c").settings(settings).unchanged().exact().rooted_in("main");
}

#[test]
fn allocates_before_main_and_after_it() {
    let library = compiled("early_library.c", "early_library.so", &["-fPIC", "-shared"]);
    let program = compiled("early.c", "early", &[library.to_str().unwrap()]);
    Case::of(program).unchanged().exact();
}

/// Our `operator new` comes before the one that such a library brings. When it could not find a C++ runtime it returned
/// null where the library's own throws.
fn cxx_library(name: &str, flags: &[&str]) {
    let flags = [&["-fPIC", "-shared"], flags].concat();
    let library = compiled("cxx_plugin.cpp", name, &flags).display().to_string();
    let traced = Case::new("cxx_host.c").arg(library).arg("1").unchanged().exact();
    let expected = "1000 entries, aligned 1, distinct 1, thrown 3, handled 1, null 1";
    assert!(traced.outcome.stdout.starts_with(expected), "{}", traced.outcome.stdout);
}

#[test]
fn loads_a_cxx_library_into_a_c_program() {
    cxx_library("cxx_shared.so", &[]);
}

#[test]
fn loads_a_library_with_a_cxx_runtime_of_its_own() {
    cxx_library("cxx_static.so", &["-static-libstdc++", "-static-libgcc"]);
}

#[test]
fn a_cxx_library_comes_and_goes() {
    let library = compiled("cxx_plugin.cpp", "cxx_again.so", &["-fPIC", "-shared", "-static-libstdc++"]);
    Case::new("cxx_host.c").arg(library.display().to_string()).arg("20").unchanged();
}

/// Threads at the loader, in its lock, in the C library's unwinder and in the C++ runtime's, and libraries that come and go.
#[test]
fn everything_at_the_loader_at_once() {
    let library = |name: &str| {
        let path = compiled("storm_plugin.c", &format!("storm_{name}.so"), &["-fPIC", "-shared"]);
        path.display().to_string()
    };
    let program = compiled("loader_storm.cpp", "loader_storm", &["-rdynamic"]);
    for mode in machine().modes.iter().map(|mode| format!("{mode},settle=10ms")) {
        let case = Case::of(program.clone()).arg(library("a")).arg(library("b")).arg("200");
        case.settings(&mode).unchanged().exact();
    }
}

#[test]
fn a_library_with_operators_of_its_own() {
    let library = compiled("own_operators_library.cpp", "own_operators_library.so", &["-fPIC", "-shared"]);
    let program = compiled("own_operators.cpp", "own_operators", &[library.to_str().unwrap()]);
    for &mode in machine().modes {
        let traced = Case::of(program.clone()).settings(mode).unchanged().exact().rooted_in("main");
        let calls = traced.outcome.stdout.split(' ').find_map(|word| word.parse::<u32>().ok()).unwrap();
        assert!(calls > 700, "{}", traced.outcome.stdout);
    }
}

/// Both kinds of paths, the program's and a library's.
#[test]
fn the_callers_path_is_looked_into() {
    if !machine().runs_programs_of_this_system() {
        eprintln!("skipped: the programs need a path of their own to find the C library");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let folder = |name: &str| {
        let path = root.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path.display().to_string()
    };
    let library = |place: &str, name: &str, flags: &[&str]| {
        let flags = [&["-fPIC", "-shared"], flags].concat();
        let built = compiled("rpath.c", &format!("{place}_{name}"), &flags);
        std::fs::copy(built, format!("{}/{name}", folder(place))).unwrap();
    };
    library("first", "librpath_outer.so", &["-DNAME=\"the first\""]);
    library("second", "librpath_outer.so", &["-DNAME=\"the second\""]);
    library("second", "librpath_inner.so", &["-DNAME=\"the library's\""]);
    library("first", "librpath_caller.so", &["-DCALLER", "-Wl,--enable-new-dtags,-rpath,$ORIGIN/../second"]);
    for tags in ["--enable-new-dtags", "--disable-new-dtags"] {
        let path = format!("-Wl,{tags},-rpath,$ORIGIN/first");
        let built = compiled("rpath.c", &format!("rpath_{tags}"), &[&path]);
        let program = root.path().join("rpath");
        std::fs::copy(built, &program).unwrap();
        let traced = Case::of(program).unchanged().exact();
        let expected = "librpath_outer.so is the first\nlibrpath_caller.so finds the library's\n";
        assert!(traced.outcome.stdout.starts_with(expected), "{}", traced.outcome.stdout);
    }
}
