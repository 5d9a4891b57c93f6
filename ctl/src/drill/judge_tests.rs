use super::*;
use crate::drill::trace::View;

/// A trace that is written step by step, one millisecond after the other.
#[derive(Default)]
struct Trace {
    records: Vec<Record>,
    now: Moment,
}

impl Trace {
    fn add(&mut self, what: Seen) -> &mut Self {
        self.now += 1000;
        self.records.push(Record { at: self.now, what });
        self
    }

    fn wait(&mut self, ms: u64) -> &mut Self {
        self.now += ms * 1000;
        self
    }

    fn ask(&mut self, number: u64) -> &mut Self {
        self.add(Seen::Asked { number })
    }

    fn answer(&mut self, number: u64, boot: &str, counter: u64) -> &mut Self {
        self.add(Seen::Answered {
            number,
            boot: boot.into(),
            counter,
        })
    }

    fn both(&mut self, number: u64, boot: &str, counter: u64) -> &mut Self {
        self.ask(number).answer(number, boot, counter)
    }

    fn view(&mut self, owner: &str, epoch: u64) -> &mut Self {
        self.add(Seen::View(View {
            leader: Some("alpha".into()),
            owner: Some(owner.into()),
            epoch,
            ..View::default()
        }))
    }

    fn frame(&mut self, link: &str) -> &mut Self {
        self.add(Seen::Frame {
            link: link.into(),
            answers: None,
        })
    }

    /// The card is heard there by its answer to a question.
    fn frame_with(&mut self, link: &str, answers: u64) -> &mut Self {
        self.add(Seen::Frame {
            link: link.into(),
            answers: Some(answers),
        })
    }

    fn lab(&mut self, what: &str) -> &mut Self {
        self.add(Seen::Lab { what: what.into() })
    }

    fn verdict(&self) -> Verdict {
        judge(&self.records, &Limits::default())
    }

    #[track_caller]
    fn is_well(&self) -> Verdict {
        let verdict = self.verdict();
        assert_eq!(verdict.violations, [""; 0]);
        verdict
    }

    #[track_caller]
    fn is_wrong(&self, how: &str) {
        let violations = self.verdict().violations;
        assert!(
            violations.len() == 1 && violations[0].starts_with(how),
            "{violations:?}"
        );
    }
}

fn trace() -> Trace {
    Trace::default()
}

#[test]
fn a_failover_is_a_stall_and_a_second_boot() {
    let verdict = trace()
        .view("alpha", 1)
        .frame("alpha")
        .both(1, "one", 1)
        .both(2, "one", 2)
        .ask(3)
        .wait(300)
        .ask(4)
        .view("beta", 2)
        .frame("beta")
        .answer(4, "two", 1)
        .both(5, "two", 2)
        .is_well();
    assert_eq!(verdict.boots.len(), 2);
    assert_eq!(verdict.boots[1].answers, 2);
    assert_eq!((verdict.asked, verdict.answered), (5, 4));
    // From the answer to question 2 to that to question 4.
    assert_eq!(verdict.stall.length_us, 305_000);
    assert_eq!(verdict.stall.from_us, 5_000);
    assert_eq!(verdict.owners, ["alpha", "beta"]);
    assert_eq!(verdict.links, ["alpha", "beta"]);
    assert_eq!(verdict.leaders, ["alpha"]);
}

#[test]
fn two_copies_are_seen_when_the_old_one_answers_again() {
    trace()
        .both(1, "one", 1)
        .both(2, "two", 1)
        .both(3, "one", 2)
        .is_wrong("two copies at once: question 3");
}

#[test]
fn a_late_answer_of_the_old_copy_is_none_of_a_second_one() {
    // Asked before the new one was heard: it may have been under way.
    trace()
        .both(1, "one", 1)
        .ask(2)
        .ask(3)
        .answer(3, "two", 1)
        .answer(2, "one", 2)
        .is_well();
}

#[test]
fn a_count_that_goes_back_is_a_lost_answer() {
    trace()
        .both(1, "one", 1)
        .both(2, "one", 2)
        .both(3, "one", 1)
        .verdict()
        .violations
        .iter()
        .find(|it| it.starts_with("an acknowledged answer is lost"))
        .expect("a violation");
}

#[test]
fn answers_that_overtake_each_other_are_none_lost() {
    trace()
        .ask(1)
        .ask(2)
        .answer(2, "one", 2)
        .answer(1, "one", 1)
        .both(3, "one", 3)
        .is_well();
}

#[test]
fn an_answer_that_comes_twice_is_one() {
    let verdict = trace()
        .both(1, "one", 1)
        .answer(1, "one", 1)
        .both(2, "one", 2)
        .is_well();
    assert_eq!(verdict.answered, 2);
    // A question that came twice was answered twice.
    trace()
        .both(1, "one", 1)
        .answer(1, "one", 2)
        .both(2, "one", 3)
        .is_well();
}

#[test]
fn two_copies_with_one_identity_are_seen_by_their_counts() {
    trace()
        .ask(1)
        .ask(2)
        .answer(1, "one", 1)
        .answer(2, "one", 1)
        .is_wrong("two copies of one identity: one gave the count 1 to questions 1 and 2");
}

#[test]
fn a_card_that_is_heard_to_and_fro_has_two_copies() {
    trace()
        .view("alpha", 1)
        .frame("alpha")
        .both(1, "one", 1)
        .view("beta", 2)
        .frame("beta")
        .both(2, "two", 1)
        .frame("alpha")
        .is_wrong("two copies at once: the guest had 2 owners");
    // It came back to its first board by a third ownership.
    trace()
        .view("alpha", 1)
        .frame("alpha")
        .both(1, "one", 1)
        .frame("beta")
        .both(2, "two", 1)
        .frame("alpha")
        .both(3, "three", 1)
        .view("alpha", 3)
        .is_well();
}

#[test]
fn what_a_paused_boards_card_held_is_no_second_copy() {
    // Two questions before the pause, one during it.
    let until_it_wakes = || {
        let mut trace = trace();
        trace.view("alpha", 1).frame("alpha").both(1, "one", 1);
        trace
            .ask(2)
            .lab(&format!("board alpha {PAUSED}"))
            .ask(3)
            .wait(300);
        trace.view("beta", 2).frame("beta").both(4, "two", 1);
        trace.wait(60_000).lab("board alpha runs on");
        trace
    };
    let verdict = until_it_wakes()
        .frame_with("alpha", 2)
        .answer(2, "one", 2)
        .frame_with("beta", 4)
        .is_well();
    assert_eq!(verdict.late, 1);
    assert_eq!(verdict.links, ["alpha", "beta"]);
    // What was asked while it was paused can only have been answered afterwards.
    until_it_wakes()
        .frame_with("alpha", 3)
        .is_wrong("two copies at once: the guest had 2 owners");
    until_it_wakes()
        .frame("alpha")
        .is_wrong("two copies at once: the guest had 2 owners");
    // Another board was not paused.
    until_it_wakes()
        .frame_with("gamma", 2)
        .is_wrong("two copies at once: the guest had 2 owners");
}

#[test]
fn a_cluster_that_is_founded_anew_counts_anew() {
    let mut trace = trace();
    trace.view("alpha", 1).frame("alpha").both(1, "one", 1);
    trace.frame("beta").both(2, "two", 1);
    trace.is_wrong("two copies at once: the guest had 1 owners");
    trace.add(Seen::View(View {
        owner: Some("beta".into()),
        era: 7,
        epoch: 1,
        ..View::default()
    }));
    trace.is_well();
}

#[test]
fn a_stall_lasts_until_the_end_of_the_watch() {
    let verdict = trace().both(1, "one", 1).ask(2).wait(5000).ask(3).is_well();
    assert_eq!(verdict.stall.length_us, 5_002_000);
}

#[test]
fn limits_are_kept() {
    let mut trace = trace();
    trace.both(1, "one", 1).wait(100).both(2, "one", 2);
    let limits = |stall, boots| {
        let limits = Limits {
            stall,
            boots,
            steady: false,
        };
        judge(&trace.records, &limits).violations.len()
    };
    assert_eq!(limits(Some(102_000), Some(1)), 0);
    assert_eq!(limits(Some(101_999), Some(2)), 2);
    assert_eq!(
        judge(&[], &Limits::default()).violations,
        ["the service never answered"]
    );
}

#[test]
fn a_change_of_owner_or_leader_is_not_steady() {
    let limits = Limits {
        steady: true,
        ..Limits::default()
    };
    let mut trace = trace();
    // Nobody is known to own or lead.
    trace.both(1, "one", 1);
    assert_eq!(judge(&trace.records, &limits).violations.len(), 2);
    trace.view("alpha", 1).view("alpha", 1);
    assert_eq!(judge(&trace.records, &limits).violations, [""; 0]);
    trace.view("beta", 2);
    assert_eq!(judge(&trace.records, &limits).violations.len(), 1);
}

#[test]
fn an_answer_without_a_question_is_told() {
    trace()
        .both(1, "one", 1)
        .answer(7, "one", 2)
        .is_wrong("an answer to question 7");
    // Nor is it one if it is asked afterwards.
    trace()
        .both(1, "one", 1)
        .answer(7, "one", 2)
        .ask(7)
        .is_wrong("an answer to question 7");
}

#[test]
fn many_violations_are_counted() {
    let mut trace = trace();
    trace.both(1, "one", 1).both(2, "two", 1);
    for n in 0..50 {
        trace.both(3 + n, "one", 2 + n);
    }
    let violations = trace.verdict().violations;
    assert_eq!(violations.len(), MAX_TOLD + 1);
    assert_eq!(violations[MAX_TOLD], "two copies at once: 40 more");
}

#[test]
fn who_leads_or_owns_anew_is_another() {
    let view = |term, epoch| {
        Seen::View(View {
            leader: Some("alpha".into()),
            owner: Some("beta".into()),
            term,
            epoch,
            ..View::default()
        })
    };
    let steady = Limits {
        steady: true,
        ..Limits::default()
    };
    let mut seen = trace();
    seen.both(1, "one", 1).add(view(1, 1));
    // Whoever is not known is not another.
    seen.add(Seen::View(View::default())).add(view(1, 1));
    assert_eq!(judge(&seen.records, &steady).violations, [""; 0]);
    let verdict = judge(&seen.add(view(2, 1)).records, &steady);
    assert_eq!(verdict.leaders, ["alpha", "alpha"]);
    assert_eq!(verdict.violations.len(), 1, "{:?}", verdict.violations);
    let verdict = judge(&seen.add(view(2, 2)).records, &steady);
    assert_eq!(verdict.owners, ["beta", "beta"]);
    assert_eq!(verdict.violations.len(), 2, "{:?}", verdict.violations);
}

#[test]
fn leases_that_lapse_are_counted() {
    let said = |board: &str, line: &str| Seen::Said {
        board: board.into(),
        line: line.into(),
    };
    let verdict = trace()
        .both(1, "one", 1)
        .add(said("alpha", "cluster: this board has a lease"))
        .add(said("alpha", "cluster: this board has no lease"))
        .add(said("alpha", "cluster: this board has a lease"))
        .add(said("alpha", "cluster: this board has no lease"))
        .is_well();
    assert_eq!(verdict.lapses, [("alpha".to_string(), 2)].into());
}
