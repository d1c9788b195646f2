//! What the preload tests' programs are compiled for and run on.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// Records every allocation and waits rather than lose one.
const EXACT: &str = "interval=every,lossless=on";
const DENSE: &str = "interval=2";

/// What the programs are compiled for and run on: this machine, another processor's emulator, or an older C library.
pub struct Machine {
    /// The C and the C++ compiler.
    compilers: [String; 2],
    /// Before the names of binutils.
    binutils: &'static str,
    /// For the compilers.
    pub flags: Vec<String>,
    /// The emulator and its arguments.
    emulator: Option<(&'static str, &'static [&'static str])>,
    /// The folder that cargo builds the tracer in, inside its target folder.
    pub folder: &'static str,
    /// Whether the tracer has assembly and an unwinder of its own for the processor.
    pub has_own_code: bool,
    /// Settings that record every allocation, and such that record samples so densely that blocks of 60 bytes and more are all
    /// among them; the first, where the tracer can.
    pub modes: &'static [&'static str],
    /// Whether its compiler keeps the CFA of a function that realigns its stack in memory.
    pub keeps_cfa_in_memory: bool,
    /// How many times slower than usual programs may be.
    pub patience: u32,
    /// Whether a mapping mostly gets the place of the one that went last.
    pub uses_places_again: bool,
    /// Whether code is known as soon as it is loaded; else only after a moment.
    pub knows_code_at_once: bool,
}

/// The machine that `PRELOAD_MACHINE` names; this one where it is not set.
pub fn machine() -> &'static Machine {
    static MACHINE: LazyLock<Machine> = LazyLock::new(|| match std::env::var("PRELOAD_MACHINE").as_deref() {
        Err(_) => Machine {
            compilers: ["gcc", "g++"].map(String::from),
            binutils: "",
            flags: Vec::new(),
            emulator: None,
            folder: "",
            has_own_code: true,
            modes: &[EXACT, DENSE],
            keeps_cfa_in_memory: cfg!(target_arch = "x86_64"),
            patience: 1,
            uses_places_again: true,
            knows_code_at_once: true,
        },
        // Return addresses are signed, as distributions have them.
        Ok("aarch64") => Machine {
            compilers: ["gcc", "g++"].map(|name| format!("aarch64-linux-gnu-{name}")),
            binutils: "aarch64-linux-gnu-",
            flags: vec!["-mbranch-protection=standard".into()],
            emulator: Some(("qemu-aarch64", &["-L", "/usr/aarch64-linux-gnu"])),
            folder: "aarch64-unknown-linux-gnu",
            has_own_code: true,
            modes: &[EXACT, DENSE],
            keeps_cfa_in_memory: false,
            patience: 5,
            uses_places_again: false,
            knows_code_at_once: true,
        },
        // The tracer has no unwinder of its own there, and records samples only. Compilers have to be asked for unwind tables.
        Ok("riscv64") => Machine {
            compilers: ["gcc", "g++"].map(|name| format!("riscv64-linux-gnu-{name}")),
            binutils: "riscv64-linux-gnu-",
            flags: vec!["-fasynchronous-unwind-tables".into()],
            emulator: Some(("qemu-riscv64", &["-L", "/usr/riscv64-linux-gnu"])),
            folder: "riscv64gc-unknown-linux-gnu",
            has_own_code: false,
            modes: &[DENSE],
            keeps_cfa_in_memory: false,
            patience: 5,
            uses_places_again: false,
            knows_code_at_once: true,
        },
        Ok("old-glibc") => old_glibc(),
        Ok(other) => panic!("PRELOAD_MACHINE is {other}, of which nothing is known"),
    });
    &MACHINE
}

/// An older distribution's compilers and libraries, from the folder that `PRELOAD_ROOT` names.
fn old_glibc() -> Machine {
    let root = std::env::var("PRELOAD_ROOT").expect("PRELOAD_ROOT says where the old distribution is");
    let libraries = ["lib", "usr/lib"].map(|folder| format!("{root}/{folder}/x86_64-linux-gnu"));
    Machine {
        compilers: ["gcc", "g++"].map(|name| format!("{root}/usr/bin/x86_64-linux-gnu-{name}-10")),
        binutils: "",
        flags: vec![
            format!("--sysroot={root}"),
            format!("-Wl,--dynamic-linker={}/ld-linux-x86-64.so.2", libraries[0]),
            format!("-Wl,--disable-new-dtags,-rpath,{}", libraries.join(":")),
        ],
        emulator: None,
        folder: "x86_64-unknown-linux-gnu",
        has_own_code: true,
        modes: &[EXACT, DENSE],
        keeps_cfa_in_memory: true,
        patience: 1,
        uses_places_again: true,
        knows_code_at_once: false,
    }
}

impl Machine {
    /// The compiler of a source.
    pub fn compiler(&self, source: &str) -> &str {
        &self.compilers[usize::from(source.ends_with(".cpp"))]
    }

    /// A tool of binutils.
    pub fn tool(&self, name: &str) -> String {
        format!("{}{name}", self.binutils)
    }

    /// Whether the tracer can be loaded into what is installed here.
    pub fn runs_programs_of_this_system(&self) -> bool {
        self.folder.is_empty()
    }

    /// Whether nothing can be learned here of processes that make others, which is then said: QEMU aborts where the child of a
    /// fork creates a thread, counts threads of its own among the program's, and its programs cannot execute others.
    pub fn is_alone(&self) -> bool {
        if self.emulator.is_some() {
            eprintln!("skipped: the emulator has no children that create threads or execute programs");
        }
        self.emulator.is_some()
    }

    /// Whether the process that the kernel knows is the emulator's, with threads and memory of its own.
    pub fn is_emulated(&self) -> bool {
        self.emulator.is_some()
    }

    /// Whether the tracer cannot record every allocation here, and what needs that cannot be tested, which is then said.
    pub fn only_samples(&self) -> bool {
        if !self.has_own_code {
            eprintln!("skipped: on this processor the tracer records samples only");
        }
        !self.has_own_code
    }

    /// Whether the tracer records as `settings` ask it to; where it does not, that is said.
    pub fn records(&self, settings: &str) -> bool {
        !settings.contains("interval=every") || !self.only_samples()
    }

    /// Whether stacks lead on through code without unwind information; where they do not, that is said.
    pub fn follows_frame_pointers(&self) -> bool {
        if self.has_own_code {
            return true;
        }
        eprintln!("skipped: the backtrace crate does not follow frame pointers");
        false
    }

    /// Runs `program`, with libraries preloaded.
    pub fn command(&self, program: &Path, preload: &[PathBuf]) -> Command {
        let mut command = match self.emulator {
            None => Command::new(program),
            Some((emulator, args)) => {
                let mut command = Command::new(emulator);
                command.args(args);
                command
            }
        };
        command.env_remove("LD_PRELOAD").env_remove("LIBTRACE");
        let names: Vec<_> = preload.iter().map(|library| library.display().to_string()).collect();
        match (names.join(":"), self.emulator) {
            (names, _) if names.is_empty() => {}
            (names, None) => {
                command.env("LD_PRELOAD", names);
            }
            // In its own environment the emulator's loader would try to preload them.
            (names, Some(_)) => {
                command.args(["-E", &format!("LD_PRELOAD={names}")]);
            }
        }
        if self.emulator.is_some() {
            command.arg(program);
        }
        command
    }
}
