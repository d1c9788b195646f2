//! Speaks to a traced process over its control socket.

use prof::control::{Reply, SUFFIX, THREAD, socket_name};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where a process listens, and how the person named it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// The socket, as this process can reach it.
    pub socket: PathBuf,
    /// For messages.
    pub name: String,
}

/// Why there is no answer, or a refusal.
#[derive(Debug)]
pub enum Error {
    /// No process has the id.
    NoProcess(u32),
    /// The process does not have the library loaded.
    NotTraced(u32),
    /// It has, and does not listen.
    NotListening(u32),
    /// There is no socket beside a file.
    NoSocket(PathBuf),
    /// Nobody listens at a socket.
    Gone(String),
    /// It is another user's.
    Denied(String),
    /// There was no whole answer in time.
    Timeout(String, Duration),
    /// The process ended before it had answered.
    Ended(String),
    /// The process does not do it.
    Refused(String),
    /// Something else.
    Failed(String, io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::NoProcess(pid) => write!(f, "no process has the id {pid}"),
            Error::NotTraced(pid) => {
                write!(f, "process {pid} is not traced: libtrace.so is not loaded in it")
            }
            Error::NotListening(pid) => write!(
                f,
                "process {pid} has no control socket: its tracing has ended, or it runs with ctl=off, or the \
                 socket could not be made ('control' in analyzer info)"
            ),
            Error::NoSocket(path) => write!(
                f,
                "no control socket beside {}: its process has ended, or runs without one",
                path.display()
            ),
            Error::Gone(name) => write!(f, "nobody listens at {name}: it has ended, or its tracing has"),
            Error::Denied(name) => {
                write!(
                    f,
                    "permission denied: {name} is another user's, or protected (run as that user, or as root)"
                )
            }
            Error::Timeout(name, limit) => write!(f, "no answer from {name} within {} s", limit.as_secs()),
            Error::Ended(name) => write!(f, "{name} ended before it had answered"),
            Error::Refused(why) => write!(f, "refused: {why}"),
            Error::Failed(name, error) => write!(f, "failed to reach {name}: {error}"),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    fn of(name: &str, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Error::Denied(name.to_owned()),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Error::Gone(name.to_owned()),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Error::Ended(name.to_owned()),
            _ => Error::Failed(name.to_owned(), error),
        }
    }
}

/// The socket that a process id, an output file or a socket's own path stands for.
///
/// # Errors
/// Where there is none, or it cannot be looked for.
pub fn find(target: &str) -> Result<Endpoint, Error> {
    if let Ok(pid) = target.parse() {
        return of_process(pid);
    }
    let path = PathBuf::from(target);
    let kind = fs::metadata(&path).map_err(|error| Error::Failed(target.to_owned(), error))?.file_type();
    if kind.is_socket() {
        return Ok(Endpoint { socket: path, name: target.to_owned() });
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let socket = path.with_file_name(socket_name(&name));
    if !is_socket(&socket) {
        return Err(Error::NoSocket(path));
    }
    Ok(Endpoint { socket, name: format!("the process of {target}") })
}

fn is_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|data| data.file_type().is_socket())
}

/// Among the sockets that the process has open, or the library's thread has for itself, the one that listens and has our
/// name. In a container it is reached through the process's root.
fn of_process(pid: u32) -> Result<Endpoint, Error> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    if !proc.exists() {
        return Err(Error::NoProcess(pid));
    }
    let name = format!("process {pid}");
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Error::NoProcess(pid),
        _ => Error::of(&name, error),
    };
    let mut inodes = open_sockets(&proc).map_err(failed)?;
    let thread = own_thread(&proc);
    if let Some(thread) = &thread {
        inodes.extend(open_sockets(thread).map_err(failed)?);
    }
    let table = fs::read(proc.join("net/unix")).map_err(failed)?;
    let table = String::from_utf8_lossy(&table);
    let bound = table.lines().filter_map(listening).find(|(inode, _)| inodes.contains(*inode));
    if let Some((_, path)) = bound {
        let socket = match (path.strip_prefix("/proc/thread-self/"), thread) {
            (Some(rest), Some(thread)) => thread.join(rest),
            _ => PathBuf::from(format!("/proc/{pid}/root{path}")),
        };
        return Ok(Endpoint { socket, name });
    }
    let maps = fs::read(proc.join("maps")).map_err(failed)?;
    match String::from_utf8_lossy(&maps).contains("/libtrace.so") {
        true => Err(Error::NotListening(pid)),
        false => Err(Error::NotTraced(pid)),
    }
}

/// The inodes of the sockets in a table of descriptors: that of a process, or of one of its threads.
fn open_sockets(of: &Path) -> io::Result<BTreeSet<String>> {
    let mut inodes = BTreeSet::new();
    for entry in fs::read_dir(of.join("fd"))? {
        let link = fs::read_link(entry?.path()).unwrap_or_default();
        let inode = link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']'));
        inodes.extend(inode.map(str::to_owned));
    }
    Ok(inodes)
}

/// The library's thread that serves the socket.
fn own_thread(process: &Path) -> Option<PathBuf> {
    let threads = fs::read_dir(process.join("task")).ok()?;
    let mut paths = threads.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    paths
        .find(|path| fs::read(path.join("comm")).is_ok_and(|name| name.trim_ascii_end() == THREAD.to_bytes()))
}

/// Inode and path of a control socket, in a line of `/proc/PID/net/unix`: number, references, protocol, flags, type, state,
/// inode, path.
fn listening(line: &str) -> Option<(&str, &str)> {
    const LISTENS: u32 = 0x10000;
    let mut rest = line;
    let mut fields = [""; 7];
    for field in &mut fields {
        (*field, rest) = rest.trim_start().split_once(' ')?;
    }
    let listens = u32::from_str_radix(fields[3], 16).ok()? & LISTENS != 0;
    (listens && rest.starts_with('/') && rest.ends_with(SUFFIX)).then_some((fields[6], rest))
}

impl Endpoint {
    /// Sends a request and waits for the answer, no longer than `limit`. Keys and values.
    ///
    /// # Errors
    /// Where there is none, or a refusal.
    pub fn ask(&self, request: &str, limit: Duration) -> Result<Vec<(String, String)>, Error> {
        let deadline = Instant::now() + limit;
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Timeout(self.name.clone(), limit),
            _ => Error::of(&self.name, error),
        };
        let mut stream = open(&self.socket, deadline).map_err(failed)?;
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        stream
            .set_read_timeout(Some(left))
            .and_then(|()| stream.set_write_timeout(Some(left)))
            .map_err(failed)?;
        // Who is not allowed is told so, and may find the connection closed before it has asked.
        let sent = stream.write_all(format!("{request}\n").as_bytes());
        let mut reply = Vec::new();
        let received = stream.read_to_end(&mut reply);
        match Reply::parse(&String::from_utf8_lossy(&reply)) {
            Some(Reply::Done(values)) => Ok(values),
            Some(Reply::Failed(why)) if why == "permission denied" => Err(Error::Denied(self.name.clone())),
            Some(Reply::Failed(why)) => Err(Error::Refused(why)),
            None => {
                received.map(|_| ()).and(sent).map_err(failed)?;
                Err(Error::Ended(self.name.clone()))
            }
        }
    }
}

/// Connects; where many others wait it waits too.
fn open(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    // A longer path goes through a descriptor of its folder, held until the connection is made.
    let folder;
    let address = match SocketAddrUnix::new(path) {
        Ok(address) => address,
        Err(_) => {
            folder = File::open(path.parent().unwrap_or(Path::new("/")))?;
            let name = path.file_name().unwrap_or_default();
            SocketAddrUnix::new(Path::new(&format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name))?
        }
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    loop {
        match connect(&socket, &address) {
            Ok(()) => break,
            Err(rustix::io::Errno::AGAIN) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_process_that_says_nothing_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("run.prof.ctl");
        let listener = UnixListener::bind(&socket).unwrap();
        let endpoint = find(socket.to_str().unwrap()).unwrap();
        let limit = Duration::from_millis(50);
        assert!(matches!(endpoint.ask("status", limit), Err(Error::Timeout(_, found)) if found == limit));
        drop(listener);
        assert!(matches!(endpoint.ask("status", limit), Err(Error::Gone(_))));
        std::fs::remove_file(&socket).unwrap();
        assert!(matches!(endpoint.ask("status", limit), Err(Error::Gone(_))));
    }

    #[test]
    fn the_kernels_table_is_read() {
        let line = |flags: &str, path: &str| {
            format!("0000000000000000: 00000002 00000000 {flags} 0001 01 48213 {path}")
        };
        assert_eq!(
            listening(&line("00010000", "/data/a run.prof.ctl")),
            Some(("48213", "/data/a run.prof.ctl"))
        );
        assert_eq!(listening(&line("00000000", "/data/run.prof.ctl")), None);
        assert_eq!(listening(&line("00010000", "/data/other")), None);
        assert_eq!(listening(&line("00010000", "@run.prof.ctl")), None);
        assert_eq!(listening("Num       RefCount Protocol Flags    Type St Inode Path"), None);
        assert_eq!(listening("0000000000000000: 00000003 00000000 00000000 0001 03 48213"), None);
    }
}
