//! `.eh_frame`: finds the description of a function and runs it up to an address. One file: the whole of what is read of
//! the format, and its only reader.
//!
//! Only the CFA, the frame pointer and the return address are followed. Reading is bounded by the image and total: what is malformed
//! or not understood gives `None`. Sources: Linux Standard Base, "Exception Frames"; DWARF 5, section 6.4.

use super::objects::Object;
use crate::arch::frame::{FRAME_POINTER, RETURN_ADDRESS, RETURN_ADDRESS_UNSTATED, Registers, says_nothing};

/// A stretch of DWARF expression, in the process's addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expression {
    /// Its first byte.
    pub start: u64,
    /// One past its last byte.
    pub end: u64,
}

/// Where the CFA is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cfa {
    /// No rule was given.
    Unset,
    /// A register's value and an offset in bytes.
    Register(u64, i64),
    /// The value of an expression.
    Expression(Expression),
}

/// Where the caller's value of a register is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Still in the register.
    Same,
    /// Nowhere.
    Undefined,
    /// In memory at CFA + offset.
    Offset(i64),
    /// CFA + offset itself.
    ValueOffset(i64),
    /// In memory at the expression's value.
    Expression(Expression),
    /// The expression's value itself.
    ValueExpression(Expression),
    /// In another register.
    Elsewhere,
}

/// The description that holds at one address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// The frame's address.
    pub cfa: Cfa,
    /// The frame pointer.
    pub fp: Place,
    /// The return address.
    pub return_address: Place,
    /// The frame is the kernel's, around a signal handler: its "return address" is an exact one.
    pub signal: bool,
}

/// A position in the image, and the end of what may be read.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    object: &'a Object,
    at: u64,
    end: u64,
}

impl<'a> Cursor<'a> {
    fn new(object: &'a Object, at: u64) -> Cursor<'a> {
        Cursor { object, at, end: object.end }
    }

    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let end = self.at.checked_add(N as u64).filter(|&end| end <= self.end)?;
        let bytes = self.object.read(self.at)?;
        self.at = end;
        Some(bytes)
    }

    fn u8(&mut self) -> Option<u8> {
        self.bytes().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.bytes().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn unsigned(&mut self) -> Option<u64> {
        let (mut value, mut shift) = (0u64, 0u32);
        loop {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            shift += 7;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
    }

    fn signed(&mut self) -> Option<i64> {
        let (mut value, mut shift) = (0i64, 0u32);
        loop {
            let byte = self.u8()?;
            value |= i64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            shift += 7;
            if byte & 0x80 == 0 {
                let negative = byte & 0x40 != 0 && shift < 64;
                return Some(if negative { value | (-1i64) << shift } else { value });
            }
        }
    }

    /// A pointer in one of the DW_EH_PE encodings; `base` is what data-relative ones count from.
    fn pointer(&mut self, encoding: u8, base: u64) -> Option<u64> {
        if encoding == 0xff {
            return Some(0);
        }
        let here = self.at;
        let value = match encoding & 0x0f {
            0x00 | 0x04 | 0x0c => self.u64()?,
            0x01 => self.unsigned()?,
            0x02 => u64::from(self.u16()?),
            0x03 => u64::from(self.u32()?),
            0x09 => self.signed()? as u64,
            0x0a => i64::from(self.u16()? as i16) as u64,
            0x0b => i64::from(self.u32()? as i32) as u64,
            _ => return None,
        };
        let value = match encoding & 0x70 {
            0x00 => value,
            0x10 => value.wrapping_add(here),
            0x30 => value.wrapping_add(base),
            _ => return None,
        };
        // Indirect pointers are personality routines', which are skipped and not followed.
        Some(value)
    }

    fn skip(&mut self, bytes: u64) -> Option<()> {
        self.at = self.at.checked_add(bytes).filter(|&at| at <= self.end)?;
        Some(())
    }

    fn expression(&mut self) -> Option<Expression> {
        let len = self.unsigned()?;
        let start = self.at;
        self.skip(len)?;
        Some(Expression { start, end: self.at })
    }

    /// Narrows the cursor to an entry of `.eh_frame`, whose length comes first; `None` for terminators and for the
    /// 64-bit form, which nothing emits.
    fn entry(&mut self) -> Option<()> {
        let len = self.u32().filter(|&len| len != 0 && len != u32::MAX)?;
        self.end = self.at.checked_add(u64::from(len)).filter(|&end| end <= self.end)?;
        Some(())
    }
}

/// What the functions of one compilation have in common.
struct Cie<'a> {
    code_factor: u64,
    data_factor: i64,
    pointers: u8,
    augmented: bool,
    signal: bool,
    instructions: Cursor<'a>,
}

fn cie(object: &Object, at: u64) -> Option<Cie<'_>> {
    let mut cursor = Cursor::new(object, at);
    cursor.entry()?;
    if cursor.u32()? != 0 || !matches!(cursor.u8()?, 1 | 3) {
        return None;
    }
    let mut letters = cursor;
    while cursor.u8()? != 0 {}
    let (code_factor, data_factor) = (cursor.unsigned()?, cursor.signed()?);
    if cursor.unsigned()? != RETURN_ADDRESS {
        return None;
    }
    let (mut pointers, mut signal) = (0, false);
    let augmented = letters.u8()? == b'z';
    if augmented {
        let len = cursor.unsigned()?;
        let mut data = cursor;
        cursor.skip(len)?;
        loop {
            match letters.u8()? {
                b'R' => pointers = data.u8()?,
                b'L' => data.skip(1)?,
                b'P' => {
                    let encoding = data.u8()?;
                    data.pointer(encoding, 0)?;
                }
                b'S' => signal = true,
                b'B' | b'G' => {}
                _ => break,
            }
        }
    }
    Some(Cie { code_factor, data_factor, pointers, augmented, signal, instructions: cursor })
}

/// Where the table of `.eh_frame_hdr` says that the function around `address` is described.
fn description(object: &Object, address: u64) -> Option<u64> {
    const SORTED_DATA_RELATIVE_I32: u8 = 0x3b;
    let base = object.unwind_table;
    let mut header = Cursor::new(object, base);
    let (version, frame, count, table) = (header.u8()?, header.u8()?, header.u8()?, header.u8()?);
    header.pointer(frame, base)?;
    let count = header.pointer(count, base)?;
    if version != 1 || table != SORTED_DATA_RELATIVE_I32 || count == 0 {
        return None;
    }
    let first = header.at;
    let field = |index: u64, field: u64| {
        let at = first.checked_add(index.checked_mul(8)?)?.checked_add(field * 4)?;
        Some(base.wrapping_add(i64::from(i32::from_le_bytes(object.read(at)?)) as u64))
    };
    let (mut low, mut high) = (0, count);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if field(middle, 0)? <= address { low = middle } else { high = middle }
    }
    if field(low, 0)? <= address { field(low, 1) } else { None }
}

/// The row that holds at `address`, an address inside an instruction.
pub fn row(object: &Object, address: u64) -> Option<Row> {
    if object.unwind_table == 0 {
        return None;
    }
    let mut fde = Cursor::new(object, description(object, address)?);
    fde.entry()?;
    let back = fde.at;
    let cie = cie(object, back.checked_sub(u64::from(fde.u32()?))?)?;
    let start = fde.pointer(cie.pointers, 0)?;
    let len = fde.pointer(cie.pointers & 0x0f, 0)?;
    if address.wrapping_sub(start) >= len {
        return None;
    }
    if cie.augmented {
        let len = fde.unsigned()?;
        fde.skip(len)?;
    }
    let initial =
        Row { cfa: Cfa::Unset, fp: Place::Same, return_address: RETURN_ADDRESS_UNSTATED, signal: cie.signal };
    let mut machine = Machine { cie: &cie, location: start, target: address, row: initial, initial };
    machine.run(cie.instructions)?;
    machine.initial = machine.row;
    machine.run(fde)?;
    Some(machine.row)
}

struct Machine<'a> {
    cie: &'a Cie<'a>,
    location: u64,
    target: u64,
    row: Row,
    /// After the common instructions: what "restore" goes back to.
    initial: Row,
}

impl Machine<'_> {
    /// Runs until the location passes the target or the instructions end.
    fn run(&mut self, mut code: Cursor) -> Option<()> {
        const REMEMBERED: usize = 8;
        let mut remembered = [self.row; REMEMBERED];
        let mut depth = 0;
        while code.at < code.end {
            let op = code.u8()?;
            let low = u64::from(op & 0x3f);
            let advance = match op >> 6 {
                1 => Some(low),
                2 => {
                    let offset = self.factored(code.unsigned()? as i64);
                    self.set(low, Place::Offset(offset));
                    None
                }
                3 => {
                    self.restore(low);
                    None
                }
                _ => match op {
                    0x00 => None,
                    0x01 => {
                        let to = code.pointer(self.cie.pointers, 0)?;
                        if to > self.target {
                            return Some(());
                        }
                        self.location = to;
                        None
                    }
                    0x02 => Some(u64::from(code.u8()?)),
                    0x03 => Some(u64::from(code.u16()?)),
                    0x04 => Some(u64::from(code.u32()?)),
                    0x0a => {
                        *remembered.get_mut(depth)? = self.row;
                        depth += 1;
                        None
                    }
                    0x0b => {
                        depth = depth.checked_sub(1)?;
                        self.row = *remembered.get(depth)?;
                        None
                    }
                    _ => {
                        self.define(op, &mut code)?;
                        None
                    }
                },
            };
            if let Some(units) = advance {
                let to = self.location.wrapping_add(units.wrapping_mul(self.cie.code_factor));
                if to > self.target {
                    return Some(());
                }
                self.location = to;
            }
        }
        Some(())
    }

    /// The instructions that define one register's place or the CFA.
    fn define(&mut self, op: u8, code: &mut Cursor) -> Option<()> {
        match op {
            0x05 => {
                let register = code.unsigned()?;
                let offset = self.factored(code.unsigned()? as i64);
                self.set(register, Place::Offset(offset));
            }
            0x06 => self.restore(code.unsigned()?),
            0x07 => self.set(code.unsigned()?, Place::Undefined),
            0x08 => self.set(code.unsigned()?, Place::Same),
            0x09 => {
                let register = code.unsigned()?;
                code.unsigned()?;
                self.set(register, Place::Elsewhere);
            }
            0x0c => self.row.cfa = Cfa::Register(code.unsigned()?, code.unsigned()? as i64),
            0x0d => self.row.cfa = Cfa::Register(code.unsigned()?, self.cfa_offset()?),
            0x0e => self.row.cfa = Cfa::Register(self.cfa_register()?, code.unsigned()? as i64),
            0x0f => self.row.cfa = Cfa::Expression(code.expression()?),
            0x10 => self.set(code.unsigned()?, Place::Expression(code.expression()?)),
            0x11 => {
                let register = code.unsigned()?;
                let offset = self.factored(code.signed()?);
                self.set(register, Place::Offset(offset));
            }
            0x12 => {
                let register = code.unsigned()?;
                self.row.cfa = Cfa::Register(register, self.factored(code.signed()?));
            }
            0x13 => self.row.cfa = Cfa::Register(self.cfa_register()?, self.factored(code.signed()?)),
            0x14 => {
                let register = code.unsigned()?;
                let offset = self.factored(code.unsigned()? as i64);
                self.set(register, Place::ValueOffset(offset));
            }
            0x15 => {
                let register = code.unsigned()?;
                let offset = self.factored(code.signed()?);
                self.set(register, Place::ValueOffset(offset));
            }
            0x16 => self.set(code.unsigned()?, Place::ValueExpression(code.expression()?)),
            // DW_CFA_GNU_args_size: says nothing about the frame.
            0x2e => {
                code.unsigned()?;
            }
            _ if says_nothing(op) => {}
            _ => return None,
        }
        Some(())
    }

    fn factored(&self, value: i64) -> i64 {
        value.wrapping_mul(self.cie.data_factor)
    }

    fn set(&mut self, register: u64, place: Place) {
        match register {
            FRAME_POINTER => self.row.fp = place,
            RETURN_ADDRESS => self.row.return_address = place,
            _ => {}
        }
    }

    fn restore(&mut self, register: u64) {
        match register {
            FRAME_POINTER => self.row.fp = self.initial.fp,
            RETURN_ADDRESS => self.row.return_address = self.initial.return_address,
            _ => {}
        }
    }

    fn cfa_register(&self) -> Option<u64> {
        if let Cfa::Register(register, _) = self.row.cfa { Some(register) } else { None }
    }

    fn cfa_offset(&self) -> Option<i64> {
        if let Cfa::Register(_, offset) = self.row.cfa { Some(offset) } else { None }
    }
}

/// The value of an expression; `first` is on the stack at its start, `load` reads the thread's memory.
pub fn evaluate(
    object: &Object,
    expression: Expression,
    first: Option<u64>,
    registers: &Registers,
    mut load: impl FnMut(u64) -> Option<u64>,
) -> Option<u64> {
    let mut code = Cursor { object, at: expression.start, end: expression.end };
    let mut stack = Stack { values: [0; 16], depth: 0 };
    if let Some(first) = first {
        stack.push(first)?;
    }
    while code.at < code.end {
        let op = code.u8()?;
        let value = match op {
            0x06 => {
                let at = stack.pop()?;
                load(at)?
            }
            0x08 => u64::from(code.u8()?),
            0x09 => i64::from(code.u8()? as i8) as u64,
            0x0a => u64::from(code.u16()?),
            0x0b => i64::from(code.u16()? as i16) as u64,
            0x0c => u64::from(code.u32()?),
            0x0d => i64::from(code.u32()? as i32) as u64,
            0x03 | 0x0e | 0x0f => code.u64()?,
            0x10 => code.unsigned()?,
            0x11 => code.signed()? as u64,
            0x12 => {
                let top = stack.pop()?;
                stack.push(top)?;
                top
            }
            0x1a | 0x1c | 0x1e | 0x21 | 0x22 | 0x24 | 0x2a => {
                let (b, a) = (stack.pop()?, stack.pop()?);
                match op {
                    0x1a => a & b,
                    0x1c => a.wrapping_sub(b),
                    0x1e => a.wrapping_mul(b),
                    0x21 => a | b,
                    0x22 => a.wrapping_add(b),
                    0x24 => a.checked_shl(u32::try_from(b).ok()?).unwrap_or(0),
                    _ => u64::from(a as i64 >= b as i64),
                }
            }
            0x23 => stack.pop()?.wrapping_add(code.unsigned()?),
            0x30..=0x4f => u64::from(op - 0x30),
            0x70..=0x8f => {
                let offset = code.signed()? as u64;
                registers.dwarf(u64::from(op - 0x70))?.wrapping_add(offset)
            }
            _ => return None,
        };
        stack.push(value)?;
    }
    stack.pop()
}

struct Stack {
    values: [u64; 16],
    depth: usize,
}

impl Stack {
    fn push(&mut self, value: u64) -> Option<()> {
        *self.values.get_mut(self.depth)? = value;
        self.depth += 1;
        Some(())
    }

    fn pop(&mut self) -> Option<u64> {
        self.depth = self.depth.checked_sub(1)?;
        self.values.get(self.depth).copied()
    }
}
