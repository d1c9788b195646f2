//! The socket: system calls, made as such, since hosts and libraries in front of the C library replace its functions.
//!
//! Where the kernel gives the thread no table of its own, descriptors are the host's to close, as daemons close all, and their
//! numbers the host's to use again: before each use a descriptor is looked at, whether it still is what it was made. They are
//! moved to high numbers, out of the way of hosts that count on low ones.
//!
//! The socket file is never open to others: Linux gives it the mode that the socket itself has before it is bound, less the
//! umask. An address has room for 107 bytes: a longer path is bound through a descriptor of its folder, which then stays
//! open, so that the address can be used from outside too, as `/proc/PID/task/TID/fd/N/NAME`.

use crate::clock;
use prof::Nanos;
use prof::control::{LONGEST_REQUEST, socket_name};
use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering::*};

/// Descriptors from here on are rarely the host's.
const HIGH_DESCRIPTOR: i32 = 500;

/// Clients that may wait.
const BACKLOG: libc::c_int = 8;

/// A client that has connected has said everything by then.
const PATIENCE: Nanos = Nanos(2_000_000_000);

/// A descriptor that a forked child has to close its copy of: number, device and inode.
struct Slot(AtomicI32, AtomicU64, AtomicU64);

impl Slot {
    const fn new() -> Slot {
        Slot(AtomicI32::new(-1), AtomicU64::new(0), AtomicU64::new(0))
    }
}

static LISTENER: Slot = Slot::new();
static FOLDER: Slot = Slot::new();
static CLIENT: Slot = Slot::new();

/// The socket file of this process: path, device and inode. Never freed: another thread may be about to remove it.
static BOUND: AtomicPtr<(CString, (u64, u64))> = AtomicPtr::new(std::ptr::null_mut());

/// A descriptor in its slot, closed when it goes unless it has become the host's.
struct Descriptor(&'static Slot);

impl Descriptor {
    /// Moves a fresh descriptor to a high number.
    fn new(slot: &'static Slot, fresh: i32) -> io::Result<Descriptor> {
        // SAFETY: duplicates a descriptor that was just made.
        let copy = unsafe { libc::fcntl(fresh, libc::F_DUPFD_CLOEXEC, HIGH_DESCRIPTOR) };
        let number = if copy < 0 { fresh } else { copy };
        let identity = identity_of(number);
        if let Some((device, inode)) = identity {
            slot.1.store(device, Relaxed);
            slot.2.store(inode, Relaxed);
            slot.0.store(number, Release);
        }
        if copy >= 0 {
            close(fresh);
        }
        identity.map(|_| Descriptor(slot)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Its number, where it still is what it was made.
    fn number(&self) -> io::Result<i32> {
        number_in(self.0).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        number_in(self.0).into_iter().for_each(close);
        self.0.0.store(-1, Release);
    }
}

/// Device and inode.
fn identity_of(descriptor: i32) -> Option<(u64, u64)> {
    // SAFETY: zero bytes are a valid `stat`, and a valid place for the result.
    unsafe {
        let mut status: libc::stat = std::mem::zeroed();
        (libc::fstat(descriptor, &mut status) == 0).then_some((status.st_dev, status.st_ino))
    }
}

fn number_in(slot: &Slot) -> Option<i32> {
    let number = slot.0.load(Acquire);
    let identity = (slot.1.load(Relaxed), slot.2.load(Relaxed));
    (number >= 0 && identity_of(number) == Some(identity)).then_some(number)
}

fn close(descriptor: i32) {
    // SAFETY: callers have just made or looked at it. As a bare system call it is no cancellation point.
    unsafe { libc::syscall(libc::SYS_close, descriptor) };
}

fn checked(result: libc::c_long) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// What is at a path, links not followed.
fn look_at(path: &CStr) -> io::Result<libc::stat> {
    // SAFETY: zero bytes are a valid `stat`; the path is a C string, and the place a valid one.
    unsafe {
        let mut status: libc::stat = std::mem::zeroed();
        let flags = libc::AT_SYMLINK_NOFOLLOW;
        let found = libc::syscall(libc::SYS_newfstatat, libc::AT_FDCWD, path.as_ptr(), &mut status, flags);
        checked(found).map(|_| status)
    }
}

/// Device and inode.
fn file_at(path: &CStr) -> Option<(u64, u64)> {
    look_at(path).ok().map(|status| (status.st_dev, status.st_ino))
}

/// In a forked child: gives up its copies of the descriptors; the socket file is the parent's.
pub fn abandon() {
    for slot in [&LISTENER, &FOLDER, &CLIENT] {
        number_in(slot).into_iter().for_each(close);
        slot.0.store(-1, Release);
    }
    BOUND.store(std::ptr::null_mut(), Release);
}

/// Removes the socket file where it still is this process's. Usable in signal handlers.
pub fn remove() {
    // SAFETY: null, or from a box that is never freed.
    let Some((path, identity)) = (unsafe { BOUND.load(Acquire).as_ref() }) else { return };
    if file_at(path) == Some(*identity) {
        unlink(path);
    }
}

fn unlink(path: &CStr) {
    // SAFETY: a C string.
    unsafe { libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), 0) };
}

/// Ends a wait for clients in another thread, whose descriptors are out of reach, by a client that says nothing. Where the path
/// is too long for an address, the wait ends by itself within a second.
pub fn interrupt() {
    // SAFETY: null, or from a box that is never freed.
    let Some((path, _)) = (unsafe { BOUND.load(Acquire).as_ref() }) else { return };
    let Some(address) = Address::spelled(path.as_bytes()) else { return };
    let _ = address.connect();
}

/// The listening socket and its file.
pub struct Listener {
    socket: Descriptor,
    /// The folder of a path that is too long for an address.
    _folder: Option<Descriptor>,
    path: PathBuf,
    /// The path again, for the system.
    text: CString,
    identity: (u64, u64),
}

impl Listener {
    /// Where the socket of an output file is.
    pub fn path_beside(output: &str) -> Option<PathBuf> {
        let output = Path::new(output);
        Some(output.with_file_name(socket_name(output.file_name()?.to_str()?)))
    }

    /// Makes the socket at `path`. One that nobody listens to any more is replaced.
    ///
    /// # Errors
    /// From the system, or where something else is there.
    pub fn bind(path: &Path) -> io::Result<Listener> {
        // SAFETY: a system call with numbers.
        let fresh = checked(unsafe { libc::syscall(libc::SYS_socket, libc::AF_UNIX, SOCKET, 0) })?;
        let socket = Descriptor::new(&LISTENER, fresh)?;
        // SAFETY: as above.
        checked(unsafe { libc::syscall(libc::SYS_fchmod, socket.number()?, 0o600) })?;
        let text = CString::new(path.as_os_str().as_bytes())?;
        let (address, folder) = Address::of(path)?;
        match address.give(libc::SYS_bind, socket.number()?) {
            Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => {
                address.clear(&text)?;
                address.give(libc::SYS_bind, socket.number()?)?;
            }
            result => result?,
        }
        let status = look_at(&text)?;
        let identity = (status.st_dev, status.st_ino);
        BOUND.store(Box::into_raw(Box::new((text.clone(), identity))), Release);
        let bound = Listener { socket, _folder: folder, path: path.to_owned(), text, identity };
        // Some systems make the file another way.
        if status.st_mode & 0o077 != 0 {
            remove();
            return Err(io::Error::other("the system makes sockets that are open to others"));
        }
        // SAFETY: a system call with numbers.
        let listening = checked(unsafe { libc::syscall(libc::SYS_listen, bound.socket.number()?, BACKLOG) });
        listening.inspect_err(|_| remove()).map(|_| bound)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether clients can reach it: the host may have closed it, and its file may be gone.
    pub fn is_whole(&self) -> bool {
        self.socket.number().is_ok() && file_at(&self.text) == Some(self.identity)
    }

    /// The next client, if one comes within `most`.
    ///
    /// # Errors
    /// From the system.
    pub fn accept(&self, most: Nanos) -> io::Result<Option<Client>> {
        if !readable(&self.socket, most)? {
            return Ok(None);
        }
        let nowhere = std::ptr::null_mut::<u8>();
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: the client's address is not wanted.
        let fresh = checked(unsafe {
            libc::syscall(libc::SYS_accept4, self.socket.number()?, nowhere, nowhere, flags)
        })?;
        Ok(Some(Client(Descriptor::new(&CLIENT, fresh)?)))
    }
}

const SOCKET: i32 = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;

/// The address of a socket file.
struct Address(libc::sockaddr_un);

impl Address {
    /// A path's; where it is too long, through a descriptor of its folder.
    fn of(path: &Path) -> io::Result<(Address, Option<Descriptor>)> {
        if let Some(address) = Address::spelled(path.as_os_str().as_bytes()) {
            return Ok((address, None));
        }
        let too_long = || io::Error::other("the path is too long for a socket");
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Err(too_long()) };
        let folder = CString::new(folder.as_os_str().as_bytes())?;
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        // SAFETY: a C string.
        let fresh =
            checked(unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, folder.as_ptr(), flags) })?;
        let folder = Descriptor::new(&FOLDER, fresh)?;
        let mut text = format!("/proc/thread-self/fd/{}/", folder.number()?).into_bytes();
        text.extend_from_slice(name.as_bytes());
        let address = Address::spelled(&text).ok_or_else(too_long)?;
        Ok((address, Some(folder)))
    }

    fn spelled(path: &[u8]) -> Option<Address> {
        // SAFETY: zero bytes are a valid address.
        let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        if path.len() >= address.sun_path.len() {
            return None;
        }
        for (place, byte) in address.sun_path.iter_mut().zip(path) {
            *place = byte.cast_signed() as libc::c_char;
        }
        Some(Address(address))
    }

    /// Binds or connects a socket.
    fn give(&self, call: libc::c_long, socket: i32) -> io::Result<()> {
        // SAFETY: the address has as many bytes as it says.
        let result = unsafe { libc::syscall(call, socket, &raw const self.0, size_of_val(&self.0)) };
        checked(result).map(|_| ())
    }

    /// Whether somebody listens.
    fn connect(&self) -> io::Result<()> {
        // SAFETY: a system call with numbers.
        let probe = checked(unsafe { libc::syscall(libc::SYS_socket, libc::AF_UNIX, SOCKET, 0) })?;
        let answer = self.give(libc::SYS_connect, probe);
        close(probe);
        answer
    }

    /// Makes room at `path`, where a process that is gone has left its socket.
    fn clear(&self, path: &CStr) -> io::Result<()> {
        let in_use = || io::Error::from_raw_os_error(libc::EADDRINUSE);
        if look_at(path)?.st_mode & libc::S_IFMT != libc::S_IFSOCK {
            return Err(in_use());
        }
        match self.connect() {
            Err(error) if error.raw_os_error() == Some(libc::ECONNREFUSED) => {
                unlink(path);
                Ok(())
            }
            _ => Err(in_use()),
        }
    }
}

/// Whether there is something to read, or to accept, within `most`.
fn readable(descriptor: &Descriptor, most: Nanos) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: descriptor.number()?, events: libc::POLLIN, revents: 0 };
    let limit = clock::timespec(most);
    let no_mask = std::ptr::null::<u8>();
    // SAFETY: one valid entry, a valid time, and no signal mask.
    let ready = checked(unsafe { libc::syscall(libc::SYS_ppoll, &mut poll, 1, &limit, no_mask, 0usize) })?;
    Ok(ready > 0)
}

/// A connection.
pub struct Client(Descriptor);

impl Client {
    /// Whether it is of this process's user, or the system's administrator.
    pub fn is_allowed(&self) -> bool {
        // SAFETY: zero bytes are valid credentials.
        let mut peer: libc::ucred = unsafe { std::mem::zeroed() };
        let mut len = size_of_val(&peer) as libc::socklen_t;
        let Ok(number) = self.0.number() else { return false };
        let (level, option) = (libc::SOL_SOCKET, libc::SO_PEERCRED);
        // SAFETY: the place has as many bytes as it says.
        let known =
            unsafe { libc::syscall(libc::SYS_getsockopt, number, level, option, &mut peer, &mut len) } == 0;
        // SAFETY: has no arguments and cannot fail.
        let own = unsafe { libc::syscall(libc::SYS_geteuid) } as libc::uid_t;
        known && (peer.uid == own || peer.uid == 0)
    }

    /// Its request, without the line end; an empty one where it has gone.
    ///
    /// # Errors
    /// What to tell it.
    pub fn request(&self) -> Result<String, &'static str> {
        let deadline = clock::now().0 + PATIENCE.0;
        let mut bytes = [0u8; LONGEST_REQUEST];
        let mut len = 0;
        loop {
            let left = Nanos(deadline.saturating_sub(clock::now().0));
            if left.0 == 0 || !readable(&self.0, left).unwrap_or(false) {
                return Err("the request did not come in time");
            }
            let free = &mut bytes[len..];
            let Ok(number) = self.0.number() else { return Ok(String::new()) };
            let nowhere = std::ptr::null_mut::<u8>();
            // SAFETY: the place has as many bytes as it says; the sender's address is not wanted.
            let got = unsafe {
                let (at, room) = (free.as_mut_ptr(), free.len());
                libc::syscall(libc::SYS_recvfrom, number, at, room, libc::MSG_DONTWAIT, nowhere, nowhere)
            };
            let Ok(got @ 1..) = usize::try_from(got) else { return Ok(String::new()) };
            if let Some(end) = free[..got].iter().position(|&byte| byte == b'\n') {
                let line = std::str::from_utf8(&bytes[..len + end]);
                return line.map(str::to_owned).map_err(|_| "the request is not UTF-8");
            }
            len += got;
            if len == bytes.len() {
                return Err("the request is too long");
            }
        }
    }

    /// Sends a reply, which fits the socket's buffer, and says that this is all. Never waits.
    pub fn reply(&self, text: &str) {
        let Ok(number) = self.0.number() else { return };
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        // SAFETY: only reads the text; the second call has numbers. Clients that have gone are of no concern.
        unsafe {
            let nowhere = std::ptr::null::<u8>();
            libc::syscall(libc::SYS_sendto, number, text.as_ptr(), text.len(), flags, nowhere, 0);
            libc::syscall(libc::SYS_shutdown, number, libc::SHUT_RDWR);
        }
    }
}
