//! The control socket itself: whose it is, what clients can do to it, and what hosts can.

use crate::controlled::{Controlled, ctl, done, failed, wait_until};
use crate::harness::{analyzer, machine};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The program's umask is 0 by the time of the second look, and the shell's in the first.
#[test]
fn the_socket_is_its_owners() {
    let mut program = Controlled::start("interval=every");
    let mode = |program: &Controlled| fs::symlink_metadata(program.socket()).unwrap().mode();
    assert_eq!(mode(&program) & 0o777, 0o600);
    // It is made anew, with the umask at 0.
    fs::remove_file(program.socket()).unwrap();
    wait_until("the socket is back", || program.has_socket());
    assert_eq!(mode(&program) & 0o777, 0o600);
    program.quit();
    assert!(!program.has_socket());
}

#[test]
fn other_users_are_refused_even_where_the_file_lets_them() {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root || machine().is_alone() {
        return eprintln!("skipped: only root can act as another user");
    }
    let mut program = Controlled::start("interval=every");
    fs::set_permissions(program.directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    fs::set_permissions(program.socket(), PermissionsExt::from_mode(0o666)).unwrap();
    let script = "import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX); \
                  s.connect(sys.argv[1]); print(s.recv(99).decode())";
    let output = Command::new("python3").args(["-c", script]).arg(program.socket()).output();
    let Ok(output) = output else { return eprintln!("skipped: python3 is not installed") };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("error permission denied"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(program.status()["recording"], "on");
    program.quit();
}

#[test]
fn a_silent_client_delays_others_a_little_and_many_are_all_served() {
    let mut program = Controlled::start("interval=every");
    let silent = UnixStream::connect(program.socket()).unwrap();
    let mut half = UnixStream::connect(program.socket()).unwrap();
    half.write_all(b"sto").unwrap();
    program.ctl(&["flush"]);
    drop((silent, half));
    let socket = program.socket();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..20)
            .map(|i| {
                let socket = &socket;
                scope.spawn(move || done(ctl(socket.to_str().unwrap(), &["mark", &format!("m{i}")])))
            })
            .collect();
        clients.into_iter().for_each(|client| assert!(client.join().unwrap().starts_with("marked ")));
    });
    assert_eq!(program.quit(), "");
    let info = analyzer(&["info", program.profile.to_str().unwrap(), "--json"]);
    assert_eq!(info["marks"].as_array().unwrap().len(), 20);
}

#[test]
fn garbage_harms_nothing() {
    let mut program = Controlled::start("interval=every,lossless=on");
    program.tell("grow 10");
    let mut random = fs::File::open("/dev/urandom").unwrap();
    let begin = Instant::now();
    let mut rounds = 0;
    while begin.elapsed() < Duration::from_secs(1) || rounds < 20 {
        let mut bytes = vec![0; [1, 7, 100, 511, 512, 513, 70_000, 4 << 20][rounds % 8]];
        random.read_exact(&mut bytes).unwrap();
        if rounds % 3 == 0 {
            bytes.push(b'\n');
        }
        let Ok(mut client) = UnixStream::connect(program.socket()) else { panic!("nobody listens") };
        client.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        let _ = client.write_all(&bytes);
        if rounds % 2 == 0 {
            let _ = client.shutdown(std::net::Shutdown::Write);
            let mut reply = Vec::new();
            let _ = client.read_to_end(&mut reply);
            assert!(reply.is_empty() || reply.starts_with(b"error "), "{}", String::from_utf8_lossy(&reply));
        }
        rounds += 1;
    }
    for request in ["mark", "mark \u{1b}[31m", "interval", "stop now", "no such", " ", "flush\0", "MARK x"] {
        let mut client = UnixStream::connect(program.socket()).unwrap();
        client.write_all(format!("{request}\n").as_bytes()).unwrap();
        let mut reply = String::new();
        client.read_to_string(&mut reply).unwrap();
        assert!(reply.starts_with("error ") && reply.ends_with("\n\n"), "{request:?}: {reply}");
    }
    program.tell("grow 5");
    assert_eq!(program.status()["recording"], "on");
    assert_eq!(program.quit(), "");
    assert_eq!(program.grown("start", "end"), (15_000, 15));
    let info = analyzer(&["info", program.profile.to_str().unwrap(), "--json"]);
    assert_eq!(info["marks"].as_array().unwrap().len(), 0);
}

#[test]
fn the_socket_of_a_killed_process_is_replaced() {
    let mut killed = Controlled::start("interval=every");
    killed.kill();
    assert!(killed.has_socket());
    let said = failed(ctl(killed.profile.to_str().unwrap(), &["status"]));
    assert!(said.contains("it has ended, or its tracing has"), "{said}");
    assert!(killed.ctl_fails(&["status"]).contains("no process has the id"));
    let directory = std::mem::replace(&mut killed.directory, tempfile::tempdir().unwrap());
    let mut second = Controlled::start_in(directory, "run.prof", "interval=every", &[]);
    second.ctl(&["flush"]);
    assert_eq!(second.quit(), "");
    assert!(!second.has_socket());
}

/// What is at the socket's place, and is not one, stays; the file says why there is no socket.
#[test]
fn without_a_socket_tracing_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("run.prof.ctl"), "mine").unwrap();
    let mut program = Controlled::start_in(directory, "run.prof", "interval=every", &[]);
    program.tell("grow 10");
    assert!(program.ctl_fails(&["status"]).contains("has no control socket"));
    assert_eq!(program.quit(), "");
    assert_eq!(fs::read_to_string(program.socket()).unwrap(), "mine");
    assert_eq!(program.grown("start", "end"), (10_000, 10));
    let info = analyzer(&["info", program.profile.to_str().unwrap(), "--json"]);
    assert!(info["facts"]["control"].as_str().unwrap().starts_with("none: "), "{info}");

    let mut off = Controlled::start("interval=every,ctl=off");
    assert!(!off.has_socket());
    assert!(off.ctl_fails(&["status"]).contains("ctl=off"));
    assert_eq!(off.quit(), "");
}

#[test]
fn long_paths_have_sockets_too() {
    let directory = tempfile::tempdir().unwrap();
    let folder = ["a", "b"].map(|letter| letter.repeat(200)).join("/");
    fs::create_dir_all(directory.path().join(&folder)).unwrap();
    let out = format!("{folder}/{}.prof", "c".repeat(200));
    let mut program = Controlled::start_in(directory, &out, "interval=every", &[]);
    assert!(program.has_socket());
    assert!(program.ctl(&["status"]).contains("threads"));
    assert!(done(ctl(program.profile.to_str().unwrap(), &["flush"])).contains("complete"));
    assert!(done(ctl(program.socket().to_str().unwrap(), &["flush"])).contains("complete"));
    assert_eq!(program.quit(), "");
    assert!(!program.has_socket());
}

/// Names of the sockets in a folder.
fn sockets(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let sockets = entries.filter(|entry| entry.file_type().unwrap().is_socket());
    let mut names: Vec<_> = sockets.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_forked_child_has_its_own() {
    if machine().is_alone() {
        return;
    }
    for &mode in machine().modes {
        let mut program = Controlled::start(mode);
        let child = program.tell("split");
        let folder: PathBuf = program.directory.path().to_owned();
        let own = format!("run.{child}.prof.ctl");
        wait_until("the child has its socket", || sockets(&folder).contains(&own));
        done(ctl(&child, &["mark", "child"]));
        program.ctl(&["mark", "parent"]);
        program.tell("go");
        assert_eq!(sockets(&folder), ["run.prof.ctl"]);
        assert_eq!(program.quit(), "");
        assert_eq!(sockets(&folder), [""; 0]);
        let marks = |name: &str| {
            let info = analyzer(&["info", folder.join(name).to_str().unwrap(), "--json"]);
            info["marks"][0]["name"].as_str().unwrap().to_owned()
        };
        assert_eq!(marks(&format!("run.{child}.prof")), "child");
        assert_eq!(marks("run.prof"), "parent");
    }
}

/// A child of a paused process is paused, can be resumed, and says that something is missing.
#[test]
fn a_child_of_a_paused_process_can_be_resumed() {
    if machine().is_alone() {
        return;
    }
    for &mode in machine().modes {
        let mut program = Controlled::start(&format!("{mode},start=paused"));
        let child = program.tell("split");
        wait_until("the child has its socket", || {
            sockets(program.directory.path()).contains(&format!("run.{child}.prof.ctl"))
        });
        done(ctl(&child, &["resume"]));
        program.tell("go");
        program.quit();
        let path = program.directory.path().join(format!("run.{child}.prof"));
        let info = analyzer(&["info", path.to_str().unwrap(), "--json"]);
        assert_eq!(info["pauses"].as_array().unwrap().len(), 1, "{info}");
    }
}

/// Whether a request is answered; why not is said.
fn is_reached(program: &Controlled) -> bool {
    let outcome = ctl(program.profile.to_str().unwrap(), &["flush"]);
    eprint!("{}", String::from_utf8_lossy(&outcome.stderr));
    outcome.status.success()
}

#[test]
fn a_host_that_closes_all_descriptors_is_still_reached() {
    let mut program = Controlled::start("interval=every,lossless=on");
    program.tell("grow 10");
    program.tell("close_all");
    wait_until("the socket is whole again", || is_reached(&program));
    program.ctl(&["mark", "later"]);
    assert_eq!(program.quit(), "");
    assert_eq!(program.grown("start", "end"), (10_000, 10));
}

/// The host does not have our socket among its descriptors, from Linux 5.9 on. Before, a socket that it has put in the place of
/// ours is the host's: nobody is accepted from it, and it stays open.
#[test]
fn a_host_that_takes_the_number_keeps_it() {
    let mut program = Controlled::start("interval=every,lossless=on");
    let open = |program: &Controlled| {
        let entries = fs::read_dir(format!("/proc/{}/fd", program.pid())).unwrap();
        let links = entries.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        links.filter(|link| link.to_str().unwrap().starts_with("socket:")).collect::<Vec<_>>()
    };
    let shared = open(&program).len();
    program.tell("take_all");
    wait_until("the socket is whole again", || is_reached(&program));
    let open = open(&program);
    let most = open.iter().map(|link| open.iter().filter(|other| *other == link).count()).max();
    assert_eq!(
        most,
        Some(1 + shared),
        "the host's socket, and a copy in the place of each of ours: {open:?}"
    );
    assert_eq!(program.quit(), "");
}

#[test]
fn programs_that_are_executed_have_their_own_and_a_failure_brings_it_back() {
    if machine().is_alone() {
        return;
    }
    let mut program = Controlled::start("interval=every,lossless=on");
    program.tell("exec_nothing");
    wait_until("the socket is back", || is_reached(&program));
    assert_eq!(program.tell("exec"), "ready");
    wait_until("the new program listens", || ctl(&program.pid(), &["flush"]).status.success());
    program.tell("grow 10");
    assert_eq!(program.quit(), "");
    assert!(!program.has_socket());
    assert_eq!(program.grown("start", "end"), (10_000, 10));
}

/// Files come and go; the socket keeps its name, and so does the present file.
#[test]
fn files_of_limited_size_have_one_socket() {
    let mut program = Controlled::start("interval=2,max_file=64k,settle=10ms");
    let earlier = program.directory.path().join("run.1.prof");
    program.ctl(&["pause"]);
    program.ctl(&["resume"]);
    wait_until("another file has begun", || {
        program.tell("grow 1000");
        program.tell("drop 1000");
        program.ctl(&["flush"]);
        earlier.exists()
    });
    assert_eq!(sockets(program.directory.path()), ["run.prof.ctl"]);
    assert_eq!(program.status()["file"].as_str(), program.profile.to_str());
    program.ctl(&["mark", "later"]);
    program.tell("grow 4");
    assert_eq!(program.quit(), "");
    assert_eq!(program.grown("later", "end"), (4_000, 4));
    let info = analyzer(&["info", program.profile.to_str().unwrap(), "--json"]);
    assert_eq!(info["pauses"].as_array().unwrap().len(), 1, "{info}");
}
