//! The C++ library that the tests build.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub const SOURCE: &str = r#"#include <cstdlib>
namespace shop {
static inline __attribute__((always_inline)) int innermost(int x) {
  int sum = 0;
  for (int i = 0; i < x; i++) { asm volatile(""); sum += i * x; }
  return sum;
}
static __attribute__((noinline, used)) int hidden(int x) { asm volatile(""); return x * 3 + 1; }
__attribute__((noinline)) int outer(int x) {
  asm volatile("");
  return innermost(x) + hidden(x);
}
}
extern "C" __attribute__((noinline)) void *visible_entry(int x) {
  return malloc(shop::outer(x) + 1);
}
"#;

/// Labels without a size, aliases, and a gap between two functions.
pub const ODD_SYMBOLS: &str = r#"
asm(".text\n"
    ".globl sizeless\n .type sizeless,@function\nsizeless: nop\n nop\n nop\n ret\n"
    ".globl sized\n .type sized,@function\nsized: nop\n ret\n .size sized,.-sized\n"
    "nop\n nop\n nop\n"
    ".type local_label,@notype\nlocal_label: nop\n nop\n ret\n");
extern "C" void __twin() {}
extern "C" void twin() __attribute__((weak, alias("__twin")));
extern "C" void twin_too() __attribute__((alias("__twin")));
"#;

/// The 1-based line of the only line that has this text.
pub fn line_of(text: &str) -> u32 {
    let mut lines = SOURCE.lines().zip(1..);
    let (_, line) = lines.find(|(line, _)| line.contains(text)).unwrap();
    line
}

/// A temporary directory with the tools run in it.
pub struct Workshop(tempfile::TempDir);

impl Workshop {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(name)
    }

    /// Builds [`SOURCE`] as a shared library, with a build-id unless the arguments say otherwise.
    pub fn build(&self, name: &str, arguments: &[&str]) -> PathBuf {
        self.build_source(name, SOURCE, arguments)
    }

    pub fn build_source(&self, name: &str, text: &str, arguments: &[&str]) -> PathBuf {
        let source = format!("{name}.cpp");
        std::fs::write(self.path(&source), text).unwrap();
        let fixed = ["-shared", "-fPIC", "-Wl,--build-id=sha1", "-o", name, &source];
        self.run("g++", &[&fixed, arguments].concat());
        self.path(name)
    }

    pub fn run(&self, tool: &str, arguments: &[&str]) {
        assert!(self.try_run(tool, arguments), "failed to run {tool} {arguments:?}");
    }

    pub fn try_run(&self, tool: &str, arguments: &[&str]) -> bool {
        let mut command = Command::new(tool);
        command.args(arguments).current_dir(self.0.path());
        let status = command.status().unwrap_or_else(|error| {
            panic!("failed to run {tool}, which the tests need (g++ and binutils): {error}")
        });
        status.success()
    }
}

pub fn missing_tool(tool: &str) -> bool {
    let mut command = Command::new(Path::new(tool));
    command.arg("--version").stdout(Stdio::null());
    command.status().is_err()
}
