//! Traces for who collects them.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::channel;

use crate::fixture::{Site, until};

#[test]
fn a_collector_is_told_what_each_tick_was_and_came_to() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let collector = format!("http://{}", listener.local_addr().unwrap());
    let (sender, received) = channel();
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut piece = [0; 16_384];
                // A part of a request may end anywhere: what comes is looked through as a whole.
                while let Ok(length @ 1..) = connection.read(&mut piece) {
                    let _ = sender.send(piece[..length].to_vec());
                    let _ = connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
                }
            });
        }
    });
    let site = Site::new();
    site.write_rule(1);
    site.write_workload();
    let engine = site.start_engine_where("OTEL_EXPORTER_OTLP_ENDPOINT", &collector);
    let mut all = vec![];
    let words = ["POST /v1/traces", "tick", "observe", "default/work", "qscaler"];
    until("the collector has heard of a tick", || {
        all.extend(received.try_iter().flatten());
        let text = String::from_utf8_lossy(&all);
        words.iter().all(|word| text.contains(word)).then_some(())
    });
    engine.stop();
}
