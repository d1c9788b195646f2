//! Opaque numbers of the stream, and its unit of time.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name(pub u32);
    };
}

id!(
    /// A module as loaded once: an image that is unloaded and loaded again gets a new number.
    ModuleId
);
id!(
    /// A traced thread, in the order in which threads were first seen. Unlike a tid it is never reused.
    ThreadIndex
);
id!(
    /// A sequence of events as one thread after the other appends to it.
    StreamIndex
);
id!(
    /// A node of the stack tree, numbered from 1 in order of definition; a stack is named by its leaf node.
    NodeId
);
id!(
    /// Counts the changes of the module map: a code address has one meaning within one generation.
    Generation
);

impl NodeId {
    /// The parent of outermost frames; it stands for no frame itself.
    pub const ROOT: NodeId = NodeId(0);
}

/// A point in time or a span, in nanoseconds. Points count from the start of tracing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Nanos(pub u64);

impl Nanos {
    /// One second.
    pub const SECOND: Nanos = Nanos(1_000_000_000);

    /// In seconds.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1e9
    }
}
