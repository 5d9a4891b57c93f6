//! A cluster of boards as an operator runs it on one machine: up, a guest more and one less, and down.

use std::fs;
use std::time::Instant;

use system::cluster::BOARDS;
use system::{Cluster, Guest, Package, paths, saw};

const NAME: &str = "operate";
/// What the new guest's kernel is made longer by, bytes: so it is in no package, and takes many pieces to upload.
const LONGER: usize = 2 << 20;
/// The new guest's address, and its service.
const ADDRESS: &str = "10.7.0.12";
const SERVICE: &str = "10.7.0.12:7007";

#[test]
fn a_guest_comes_and_goes_while_boards_run() {
    let web = Guest::bare_metal("answer", 1).named("web");
    let package = Package::of([web.with("ip=10.7.0.11").card()]).on(&BOARDS);
    let operator = Cluster::new(NAME, &package);
    let begun = Instant::now();
    let said = operator.good(&["up", "--smp", "1", "--memory", "512", "--folder", "lab"]);
    assert!(said.contains("cluster tests is up in lab "), "{said}");
    let up = begun.elapsed();

    let mut kernel = fs::read(paths::bare_metal("answer")).expect("the guest's program");
    // Different each time, so that boards cannot have it from anywhere.
    kernel.resize(kernel.len() + LONGER, std::process::id() as u8);
    fs::write(operator.folder().join("late.bin"), kernel).expect("the guest's program written");
    let begun = Instant::now();
    let command_line = format!("ip={ADDRESS}");
    let create = [
        "guest",
        "create",
        "--name",
        "late",
        "--kernel",
        "late.bin",
        "--memory",
        "64",
        "--nic",
        "--command-line",
        &command_line,
    ];
    operator.good(&create);
    let created = begun.elapsed();
    operator.good(&["guest", "start", "late", "--wait"]);
    let answer = operator.good(&["lab", "send", SERVICE, "41"]);
    assert!(answer.contains(" 41"), "{answer}");
    let list = operator.good(&["guest", "list"]);
    assert!(
        list.contains("\nlate ") && list.contains("\nweb "),
        "{list}"
    );

    // It runs, so it cannot be deleted.
    let refused = operator.run(&["guest", "delete", "late"]);
    let complaint = String::from_utf8_lossy(&refused.stderr);
    assert!(complaint.contains("not while it runs"), "{complaint}");
    operator.good(&["guest", "stop", "late", "--wait"]);
    operator.good(&["guest", "delete", "late"]);
    let silent = operator.run(&["lab", "send", SERVICE, "42", "--timeout", "1s"]);
    assert!(!silent.status.success(), "a guest that is no more answers");
    let list = operator.good(&["guest", "list"]);
    assert!(!list.contains("late"), "{list}");
    // The other one was left alone, on the first boot that it had.
    assert!(
        operator
            .good(&["lab", "send", "10.7.0.11:7007", "1"])
            .contains(" 1 1")
    );

    operator.good(&["down"]);
    let gone = operator.run(&["status"]);
    assert!(!gone.status.success(), "a cluster that is down answers");
    saw!(
        NAME,
        "a cluster was up after {} ms, and a guest of {} KiB made in {} ms",
        up.as_millis(),
        LONGER >> 10,
        created.as_millis()
    );
}
