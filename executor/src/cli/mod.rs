//! The command line.

pub mod df;
pub mod history;
pub mod images;
pub mod inspect;
pub mod load;
pub mod prune;
pub mod rmi;
pub mod save;
pub mod table;
pub mod tag;
pub mod template;
pub mod units;
