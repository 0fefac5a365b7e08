//! Texts for SQLite. Each is one operation: its statements run in order in one immediate transaction,
//! with the named parameters that they mention, and the rows of the last one are its result.

macro_rules! texts {
    ($($name:ident = $file:literal;)*) => {$(
        #[doc = concat!("`", $file, "`: what it does, its parameters and its rows stand at its head.")]
        pub const $name: &str = include_str!(concat!("../sqlite/", $file));
    )*};
}

texts! {
    TABLES = "tables.sql";
    PEEK = "peek.sql";
    FETCH = "fetch.sql";
    RENEW = "renew.sql";
    ACK = "ack.sql";
    RETURN = "return.sql";
    BURY = "bury.sql";
    REAP = "reap.sql";
    MEASURE = "measure.sql";
    INTERRUPTED = "interrupted.sql";
    COUNT = "count.sql";
    REPORT = "report.sql";
    CLAIM = "claim.sql";
    ADOPT = "adopt.sql";
    CLEAR = "clear.sql";
    PROJECT = "project.sql";
    WITHDRAW = "withdraw.sql";
    FLOOR = "floor.sql";
    PATH = "path.sql";
    OFFERS = "offers.sql";
    REPORTS = "reports.sql";
    RELEASE = "release.sql";
    FORGET = "forget.sql";
}
