//! What a person, a browser or a program reads.
//!
//! Every writer is given the finished result and any [`std::io::Write`]; the order of its output is fixed by the
//! result: by bytes, then by name.

pub mod top;
mod columns;
pub mod table;
pub mod folded;
pub mod svg;
pub mod json;
pub mod rows_text;
pub mod rows_json;
pub mod check_text;
pub mod check_json;
pub mod report_text;
pub mod report_json;
mod axis;
pub mod timeline_text;
pub mod timeline_svg;
pub mod timeline_json;
