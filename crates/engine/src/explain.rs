//! What the engine makes of a transaction, for people: texts of every stage, estimates of time, and pictures.
//!
//! [`Report::new`] compiles a recorded graph and keeps every stage of it. A report can be written as a [`summary`](Report::summary), stage by stage
//! ([`Report::stage`]), and drawn ([`Report::svg`], [`Report::dot`]). All of it is a pure function of graph, rules and options.

mod dot;
mod estimate;
mod layout;
mod path;
mod picture;
mod reference;
mod report;
mod svg;
mod text;

pub use estimate::{BootstrapTime, Estimate, TimeSource, rounds};
pub use path::CriticalPath;
pub use picture::MAX_DRAWN;
pub use reference::Reference;
pub use report::{Alone, Cost, Load, Report, RuleEffect};
pub use text::Stage;
