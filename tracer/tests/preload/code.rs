//! The library's machine code as objdump prints it: which functions there are, and what each of them calls.

use crate::harness::{code_symbols, tool};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What a function calls, goes on to, or takes the address of.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Target {
    /// A function of the library, by its address.
    Own(u64),
    /// A function of another library, by its name.
    Import(String),
    /// Whatever a variable or a register points to, by the call's address.
    Pointer(u64),
}

/// One machine instruction.
#[derive(Debug)]
pub struct Instruction {
    /// Where it is.
    pub at: u64,
    /// What it does.
    pub mnemonic: String,
    /// What it does it to, without objdump's remarks.
    pub operands: String,
    /// The address that it refers to, where objdump knows it, and objdump's name for it.
    refers: Option<(u64, String)>,
}

/// All functions, and what the loader writes where.
pub struct Code {
    functions: BTreeMap<u64, (String, Vec<Instruction>)>,
    slots: HashMap<u64, Target>,
}

impl Code {
    /// Of the library under test, where that is for x86-64.
    pub fn read() -> Option<Code> {
        if !tool("readelf", &["-h"]).contains("X86-64") {
            return None;
        }
        let functions = functions();
        let mut slots = slots();
        // The others are variables.
        slots.retain(|_, target| !matches!(target, Target::Own(at) if !functions.contains_key(at)));
        let mut code = Code { functions, slots };
        for line in tool("objdump", &["-d", "--no-show-raw-insn"]).lines() {
            let Some(instruction) = Instruction::parse(line) else { continue };
            if let Some((_, (_, body))) = code.functions.range_mut(..=instruction.at).next_back() {
                body.push(instruction);
            }
        }
        Some(code)
    }

    /// Whether it has a function of that name.
    pub fn has(&self, name: &str) -> bool {
        self.functions.values().any(|(other, _)| other == name)
    }

    /// The function's name.
    pub fn name(&self, function: u64) -> &str {
        &self.functions[&function].0
    }

    /// The one function of that name.
    pub fn find(&self, name: &str) -> u64 {
        let found: Vec<_> = self.functions.iter().filter(|(_, (other, _))| other == name).collect();
        assert_eq!(found.len(), 1, "functions called {name}");
        *found[0].0
    }

    /// The exported function of that name.
    pub fn export(&self, name: &str) -> u64 {
        let symbols = tool("nm", &["-D", "--defined-only"]);
        let mut words = symbols.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let found = words.find(|words| words.last() == Some(&name));
        let address = found.unwrap_or_else(|| panic!("{name} is not exported"))[0].to_owned();
        u64::from_str_radix(&address, 16).unwrap()
    }

    /// Its instructions.
    pub fn body(&self, function: u64) -> &[Instruction] {
        &self.functions[&function].1
    }

    /// What it calls, goes on to, or takes the address of.
    pub fn targets(&self, function: u64) -> BTreeSet<Target> {
        let body = self.body(function);
        let of = |(index, instruction): (usize, &Instruction)| self.targets_of(body, index, instruction);
        let mut targets: BTreeSet<_> = body.iter().enumerate().flat_map(of).collect();
        targets.remove(&Target::Own(function));
        targets
    }

    fn targets_of(&self, body: &[Instruction], index: usize, instruction: &Instruction) -> Vec<Target> {
        let refers = instruction.refers.as_ref();
        match instruction.mnemonic.as_str() {
            "call" | "jmp" if instruction.operands.starts_with('*') => {
                match refers.map(|(at, _)| self.slots.get(at)) {
                    Some(Some(target)) => vec![target.clone()],
                    Some(None) => vec![Target::Pointer(instruction.at)],
                    None => self.through_register(body, index),
                }
            }
            mnemonic if mnemonic == "call" || mnemonic.starts_with('j') => {
                let target = refers.map(|(at, name)| match name.strip_suffix("@plt") {
                    Some(import) => Target::Import(import.to_owned()),
                    None => Target::Own(*self.functions.range(..=at).next_back().expect("a function").0),
                });
                target.into_iter().collect()
            }
            // The address of a function, computed or read from where the loader has written it.
            _ => self.loaded(instruction).into_iter().collect(),
        }
    }

    /// A call through a register is known where on every way there the address of a function is written to it last; a jump
    /// also where the address comes out of the function's own table.
    fn through_register(&self, body: &[Instruction], index: usize) -> Vec<Target> {
        let instruction = &body[index];
        let unknown = vec![Target::Pointer(instruction.at)];
        let Some(register) = instruction.operands.strip_prefix("*%") else { return unknown };
        if by_table(body, index) {
            return Vec::new();
        }
        match self.held(body, index, register) {
            Some(known) if !known.is_empty() => known.into_iter().collect(),
            _ => unknown,
        }
    }

    /// The functions whose addresses the register may hold before `body[index]`, unless it may hold something else.
    fn held(&self, body: &[Instruction], index: usize, register: &str) -> Option<BTreeSet<Target>> {
        const PRESERVED: [&str; 6] = ["rbx", "rbp", "r12", "r13", "r14", "r15"];
        let mut held = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut queue = vec![(index, register)];
        while let Some((index, register)) = queue.pop() {
            for earlier in before(body, index)? {
                let instruction = &body[earlier];
                let next = match instruction.copied() {
                    Some(from) if instruction.writes(register) => (earlier, from),
                    _ if instruction.writes(register) => {
                        held.insert(self.loaded(instruction)?);
                        continue;
                    }
                    _ if instruction.mnemonic == "call" && !PRESERVED.contains(&register) => return None,
                    _ => (earlier, register),
                };
                if seen.insert(next) {
                    queue.push(next);
                }
            }
        }
        Some(held)
    }

    /// The function whose address the instruction loads.
    fn loaded(&self, instruction: &Instruction) -> Option<Target> {
        let (at, _) = instruction.refers.as_ref()?;
        match instruction.mnemonic.as_str() {
            "mov" => self.slots.get(at).cloned(),
            "lea" if self.functions.contains_key(at) => Some(Target::Own(*at)),
            _ => None,
        }
    }
}

impl Instruction {
    /// A line as `  83731:\tjmp    *0x9ea91(%rip)        # 1221c8 <name>`.
    fn parse(line: &str) -> Option<Instruction> {
        let (at, rest) = line.strip_prefix(' ')?.split_once(":\t")?;
        let at = u64::from_str_radix(at.trim(), 16).ok()?;
        let (text, remark) = rest.split_once('#').map_or((rest, None), |(text, remark)| (text, Some(remark)));
        let mut words = text.split_whitespace().skip_while(|word| PREFIXES.contains(word));
        let mnemonic = words.next()?.to_owned();
        let operands = words.collect::<Vec<_>>().join(" ");
        let place = remark.unwrap_or(&operands).trim();
        let refers = place.split_once(" <").and_then(|(address, name)| {
            Some((u64::from_str_radix(address, 16).ok()?, name.trim_end_matches('>').to_owned()))
        });
        let refers = refers.or_else(|| Some((u64::from_str_radix(remark?.trim(), 16).ok()?, String::new())));
        Some(Instruction { at, mnemonic, operands, refers })
    }

    /// Of a copy from one register to another, the first.
    fn copied(&self) -> Option<&str> {
        let (from, to) = self.operands.split_once(',').filter(|_| self.mnemonic == "mov")?;
        from.strip_prefix('%').filter(|_| to.trim().starts_with('%'))
    }

    /// Whether it may change that register of 64 bits. AT&T syntax: the last operand is the destination.
    fn writes(&self, register: &str) -> bool {
        const READS: [&str; 5] = ["cmp", "test", "push", "call", "j"];
        let destination = self.operands.rsplit(',').next().unwrap_or_default().trim();
        let reads = READS.iter().any(|read| self.mnemonic.starts_with(read));
        !reads && destination.strip_prefix('%') == Some(register)
    }
}

/// The instructions after which `body[index]` may be next; `None` where that is not known, or it is the first. The function's
/// tables lead to what nothing else leads to, but for padding.
fn before(body: &[Instruction], index: usize) -> Option<Vec<usize>> {
    let here = body[index].at;
    let leads_here = |&other: &usize| {
        let Instruction { mnemonic, refers, .. } = &body[other];
        let goes_on = !["jmp", "ret", "ud2"].contains(&mnemonic.as_str());
        let jumps = mnemonic.starts_with('j') && refers.as_ref().is_some_and(|(at, _)| *at == here);
        goes_on && other + 1 == index || jumps
    };
    let mut before: Vec<_> = (0..body.len()).filter(leads_here).collect();
    let is_padding = body[index].mnemonic.starts_with("nop");
    if before.is_empty() && !is_padding {
        before.extend((0..body.len()).filter(|&other| by_table(body, other)));
    }
    (index > 0 && (is_padding || !before.is_empty())).then_some(before)
}

/// Whether it is a jump to an address out of the function's own table.
fn by_table(body: &[Instruction], index: usize) -> bool {
    let Instruction { mnemonic, operands, .. } = &body[index];
    let Some(register) = operands.strip_prefix("*%") else { return false };
    let earlier = &body[index.saturating_sub(8)..index];
    mnemonic == "jmp"
        && earlier.iter().any(|other| other.mnemonic == "movslq")
        && earlier.iter().any(|other| other.mnemonic == "add" && other.writes(register))
}

/// That say nothing of what an instruction does; `lock` does.
const PREFIXES: [&str; 5] = ["bnd", "notrack", "data16", "cs", "rep"];

/// Where each function begins, and its readable name.
fn functions() -> BTreeMap<u64, (String, Vec<Instruction>)> {
    let mut functions = BTreeMap::new();
    for line in code_symbols().lines() {
        let mut words = line.splitn(3, ' ');
        let (Some(at), Some("t" | "T" | "w" | "W"), Some(name)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        functions.insert(u64::from_str_radix(at, 16).unwrap(), (name.to_owned(), Vec::new()));
    }
    functions
}

/// What the loader writes into the library's tables.
fn slots() -> HashMap<u64, Target> {
    let mut slots = HashMap::new();
    for line in tool("readelf", &["-rW"]).lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let hex = |index: usize| words.get(index).and_then(|word| u64::from_str_radix(word, 16).ok());
        let Some(at) = hex(0) else { continue };
        match words.get(2) {
            Some(&("R_X86_64_GLOB_DAT" | "R_X86_64_JUMP_SLOT")) => {
                let (value, name) = (hex(3).unwrap(), words[4].split('@').next().unwrap());
                let target = if value == 0 { Target::Import(name.into()) } else { Target::Own(value) };
                slots.insert(at, target);
            }
            Some(&"R_X86_64_RELATIVE") => {
                slots.insert(at, Target::Own(hex(3).unwrap()));
            }
            _ => {}
        }
    }
    slots
}
