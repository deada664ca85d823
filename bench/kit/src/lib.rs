//! What every benchmark here needs: tokens for its clients, the use that a process makes of the machine, times in order.

pub mod times;
pub mod token;
pub mod usage;
