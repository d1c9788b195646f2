//! Hooks of what changes stacks and code: `pthread_create` and `dlclose`. `dlopen` is left alone: the loader looks at
//! who called it.

use crate::arch::frame::Caller;
use crate::arch::hooks::{Function, thread_start};
use crate::arch::thread::own_stack;
use crate::entry::{real, wait_for_entries};
use crate::holders::{self, HolderIndex};
use crate::local::{as_own, local};
use crate::unwind::rules;
use crate::{fork, phase, record, thread_stacks, watch};
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::*};

type Start = unsafe extern "C" fn(*mut c_void) -> *mut c_void;
type PthreadCreate =
    unsafe extern "C" fn(*mut libc::pthread_t, *const libc::pthread_attr_t, Start, *mut c_void) -> c_int;

/// What a new thread is to run, on its way from its creator.
pub struct Slot {
    taken: AtomicBool,
    function: AtomicUsize,
    argument: AtomicUsize,
    stack_size: AtomicU64,
    /// The creator's holder.
    holder: AtomicU32,
}

/// Threads that may be starting at one moment; beyond that a thread is created without noting its stack.
static SLOTS: [Slot; 256] = [const {
    Slot {
        taken: AtomicBool::new(false),
        function: AtomicUsize::new(0),
        argument: AtomicUsize::new(0),
        stack_size: AtomicU64::new(0),
        holder: AtomicU32::new(0),
    }
}; 256];

/// Two registers' worth.
#[repr(C)]
pub struct Run {
    /// The program's.
    pub function: usize,
    /// What it takes.
    pub argument: usize,
}

/// In a forked child: threads that were starting are gone.
pub fn forked() {
    SLOTS.iter().filter(|slot| slot.taken.load(Relaxed)).for_each(|slot| slot.taken.store(false, Relaxed));
}

/// The next `pthread_create` in line.
pub fn real_pthread_create() -> PthreadCreate {
    wait_for_entries();
    // SAFETY: the entry is of the function of that name, whose type this is.
    unsafe { std::mem::transmute(real::pthread_create.get()) }
}

/// The key whose destructor ends a thread that a holder has created.
static KEY: AtomicU32 = AtomicU32::new(u32::MAX);

/// Makes the key. False where there is none left.
pub fn create_key() -> bool {
    let mut key = 0;
    // SAFETY: `key` is a valid place, and the destructor asks nothing of its argument.
    let made = unsafe { libc::pthread_key_create(&mut key, Some(thread_ends)) } == 0;
    if made {
        KEY.store(key, Release);
    }
    made
}

/// As the C function `pthread_create`, called by `caller`; the new thread notes the bounds of its stack, and who made it,
/// before it runs `start`.
///
/// # Safety
/// As the C function.
pub unsafe extern "C" fn create_thread(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    start: Start,
    argument: *mut c_void,
    _: u64,
    _: u64,
    caller: Caller,
) -> c_int {
    let real = real_pthread_create();
    fork::resume();
    let slot = match phase::now() {
        phase::Phase::Stopped => None,
        _ => SLOTS.iter().find(|slot| !slot.taken.swap(true, Acquire)),
    };
    let Some(slot) = slot else {
        // SAFETY: the caller's own arguments.
        return unsafe { real(thread, attributes, start, argument) };
    };
    slot.function.store(start as usize, Relaxed);
    slot.argument.store(argument as usize, Relaxed);
    // SAFETY: the caller's attributes are null or valid.
    slot.stack_size.store(unsafe { stack_size(attributes) }, Relaxed);
    slot.holder.store(holder_of(caller).map_or(0, |holder| holder.number() + 1), Release);
    // SAFETY: the thread's first function is `thread_start`, which takes a slot; the rest are the caller's arguments.
    unsafe {
        let begin: Start = std::mem::transmute(thread_start as Function);
        let status = real(thread, attributes, begin, std::ptr::from_ref(slot).cast_mut().cast());
        if status != 0 {
            slot.taken.store(false, Release);
        }
        status
    }
}

/// The holder of the stack that creates a thread, where that is recorded. A function of its own, by which the test that reads
/// the machine code tells the hook's work from the C library's.
#[inline(never)]
fn holder_of(caller: Caller) -> Option<HolderIndex> {
    let mut holder = None;
    if phase::now() == phase::Phase::Tracing {
        record::record(local(), |local| holder = Some(record::holder(local, caller)));
    }
    holder
}

/// # Safety
/// `attributes` is null or valid.
unsafe fn stack_size(attributes: *const libc::pthread_attr_t) -> u64 {
    let mut size = 0;
    // SAFETY: valid by contract, or made here and destroyed again; `size` is a valid place.
    unsafe {
        if !attributes.is_null() {
            libc::pthread_attr_getstacksize(attributes, &mut size);
        } else if let Some(get_default) = default_attributes() {
            as_own(|| {
                let mut default = std::mem::zeroed();
                if get_default(&mut default) == 0 {
                    libc::pthread_attr_getstacksize(&default, &mut size);
                    libc::pthread_attr_destroy(&mut default);
                }
            });
        }
    }
    size as u64
}

type GetDefault = unsafe extern "C" fn(*mut libc::pthread_attr_t) -> c_int;

/// glibc has `pthread_getattr_default_np` since 2.18.
fn default_attributes() -> Option<GetDefault> {
    static FUNCTION: AtomicUsize = AtomicUsize::new(0);
    if FUNCTION.load(Relaxed) == 0 {
        // SAFETY: the name is a C string.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"pthread_getattr_default_np".as_ptr()) };
        FUNCTION.store(if found.is_null() { 1 } else { found as usize }, Relaxed);
    }
    match FUNCTION.load(Relaxed) {
        1 => None,
        // SAFETY: the address is of the function of that name, whose type this is.
        found => Some(unsafe { std::mem::transmute::<usize, GetDefault>(found) }),
    }
}

/// In the new thread: notes its stack, and says what to run.
///
/// # Safety
/// `slot` is one of [`SLOTS`], filled in by the creator.
pub unsafe extern "C" fn thread_begins(slot: *const Slot) -> Run {
    // SAFETY: by contract.
    let slot = unsafe { &*slot };
    let holder = slot.holder.load(Acquire).checked_sub(1).map(HolderIndex::from_number);
    let size = slot.stack_size.load(Relaxed);
    let run = Run { function: slot.function.load(Relaxed), argument: slot.argument.load(Relaxed) };
    slot.taken.store(false, Release);
    let (low, high) = own_stack(size);
    local().stack_high.set(high);
    local().stack_low.set(low);
    if let Some(holder) = holder {
        let local = local();
        local.stack_bytes.set(size);
        local.creator.set(u64::from(holder.number()) + 1);
        holders::thread_begins(holder, size);
        thread_stacks::enter(low, high);
        // glibc may allocate for a key of a high number: that is our own doing.
        // SAFETY: the key is ours, and any value but null has its destructor called.
        as_own(|| unsafe { libc::pthread_setspecific(KEY.load(Acquire), std::ptr::from_ref(local).cast()) });
    }
    run
}

/// The destructor of the key.
unsafe extern "C" fn thread_ends(_: *mut c_void) {
    let local = local();
    if let Some(number) = local.creator.take().checked_sub(1) {
        holders::thread_ends(HolderIndex::from_number(number as u32), local.stack_bytes.get());
        thread_stacks::leave(local.stack_high.get());
    }
}

/// As the C function; what was known of the code that goes is forgotten.
///
/// # Safety
/// As the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn dlclose(handle: *mut c_void) -> c_int {
    wait_for_entries();
    rules::unloading(|| {
        // SAFETY: the entry is of the function of that name, whose type this is; the handle is the caller's.
        let status = unsafe {
            let real: unsafe extern "C" fn(*mut c_void) -> c_int = std::mem::transmute(real::dlclose.get());
            real(handle)
        };
        watch::closed();
        status
    })
}
