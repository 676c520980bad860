//! Each rule of `discover`, by a scene that was built for it.
//!
//! A scene has a line a process: `pid parent group name: descriptors`, where `1w5` is descriptor 1
//! at the write end of pipe 5, `r` the read end, `b` both (`O_RDWR`); `c` behind it is close-on-exec
//! and `F` a named FIFO. Words after `|` say more: `waits` (for a child), `forked` (without an
//! exec), `calls=READS/BYTES` (written), and `fd=63` (named on its command line).
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use pipeprof_runner::discover::{
    Access, Calls, Descriptor, Found, PipeKey, ProcTable, Process, pipeline_of, pipelines, tree_of,
};
use pipeprof_runner::pipeline::{Link, MemberId};

fn scene(text: &str) -> ProcTable {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    ProcTable::new(lines.map(process).collect(), 0)
}

fn process(line: &str) -> Process {
    let (line, more) = line.split_once('|').unwrap_or((line, ""));
    let (head, descriptors) = line.split_once(':').unwrap();
    let [pid, parent, group, name] = head.split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("{line}");
    };
    let pid = pid.parse().unwrap();
    let mut process = Process {
        pid,
        parent: parent.parse().unwrap(),
        group: group.parse().unwrap(),
        start_time_ticks: u64::try_from(pid).unwrap(),
        comm: name.to_owned(),
        command_line: vec![name.to_owned()],
        descriptors: descriptors.split_whitespace().map(descriptor).collect(),
        ..Process::default()
    };
    for word in more.split_whitespace() {
        if word == "waits" {
            process.waits_for_child = true;
        } else if word == "forked" {
            process.forked_only = true;
        } else if let Some(calls) = word.strip_prefix("calls=") {
            let (reads, bytes) = calls.split_once('/').unwrap();
            let (reads, written_bytes) = (reads.parse().unwrap(), bytes.parse().unwrap());
            process.calls = Some(Calls { reads, written_bytes });
        } else if let Some(fd) = word.strip_prefix("fd=") {
            process.command_line.push(format!("/dev/fd/{fd}"));
        } else {
            panic!("{word}");
        }
    }
    process
}

fn descriptor(text: &str) -> Descriptor {
    let at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap();
    let rest = &text[at + 1..];
    let digits = rest.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    Descriptor {
        fd: text[..at].parse().unwrap(),
        pipe: PipeKey { device: 13, inode: digits.parse().unwrap() },
        link: Link::Pipe,
        access: match &text[at..=at] {
            "r" => Access::Read,
            "w" => Access::Write,
            _ => Access::Both,
        },
        close_on_exec: rest.ends_with('c'),
        path: rest.ends_with('F').then(|| format!("/fifo{digits}").into()),
    }
}

/// `members; pipe: writers>readers …`, by name.
fn shape(found: &Found) -> String {
    let members = &found.pipeline.members;
    let names = |ids: &[MemberId]| {
        let comm = |id: &MemberId| found.pipeline.member(*id).unwrap().comm.as_str();
        ids.iter().map(comm).collect::<Vec<_>>().join(",")
    };
    let all = members.iter().map(|m| m.comm.as_str()).collect::<Vec<_>>().join(" ");
    let pipes = found.pipeline.pipes.iter();
    let pipes = pipes.map(|p| format!(" {}:{}>{}", p.inode, names(&p.writers), names(&p.readers)));
    format!("{all};{}", pipes.collect::<String>())
}

fn wrappers(found: &Found) -> Vec<&str> {
    found.wrappers.iter().map(|member| member.comm.as_str()).collect()
}

fn shapes(found: &[Found]) -> Vec<String> {
    found.iter().map(shape).collect()
}

#[track_caller]
fn from_each(text: &str, pids: &[i32], expected: &str) {
    let table = scene(text);
    for &pid in pids {
        assert_eq!(shape(&pipeline_of(&table, &[pid])), expected, "from pid {pid}");
    }
}

#[test]
fn five_members_are_found_from_any_of_them_in_order() {
    let text = "
        10 1 10 sh:
        15 10 10 e: 0r4
        11 10 10 a: 1w1
        13 10 10 c: 0r2 1w3
        12 10 10 b: 0r1 1w2
        14 10 10 d: 0r3 1w4
        20 1 20 x: 1w9
        21 1 20 y: 0r9";
    let expected = "a b c d e; 1:a>b 2:b>c 3:c>d 4:d>e";
    from_each(text, &[10, 11, 12, 13, 14, 15], expected);
    assert_eq!(wrappers(&pipeline_of(&scene(text), &[10])), ["sh"]);
    assert_eq!(shapes(&pipelines(&scene(text), 99)), [expected, "x y; 9:x>y"]);
}

#[test]
fn order_follows_the_flow_not_the_pids() {
    let text = "
        12 1 10 last: 0r2
        14 1 10 first: 1w1
        13 1 10 middle: 0r1 1w2";
    from_each(text, &[12, 13, 14], "first middle last; 1:first>middle 2:middle>last");
}

#[test]
fn a_shell_that_holds_both_ends_is_no_member() {
    let text = "
        10 1 10 sh: 3r1 4w1
        11 10 10 a: 1w1
        12 10 10 b: 0r1";
    from_each(text, &[11, 12], "a b; 1:a>b");
}

#[test]
fn nobody_is_joined_by_job_servers_and_self_pipes() {
    let text = "
        10 1 10 make: 3r1 4w1
        11 10 10 make: 3r1 4w1
        12 10 10 cc: 3r1 4w1
        13 1 10 loop: 5r2c 6w2c
        14 1 10 guard: 9b3F";
    assert!(pipelines(&scene(text), 99).is_empty());
}

#[test]
fn a_server_that_keeps_its_alive_pipe_is_not_joined_to_its_workers() {
    let text = "
        10 1 10 server: 4r1 5w1
        11 10 10 worker: 4r1
        12 10 10 worker: 4r1";
    assert!(pipelines(&scene(text), 99).is_empty());
}

#[test]
fn tee_fans_out_and_what_bash_leaks_joins_nobody() {
    // As bash 5.2 leaves it: wc inherits the write end of gzip's pipe as 63.
    let text = "
        10 1 10 bash:
        11 10 10 yes: 1w1
        12 10 10 tee: 0r1 1w2 3w3 4w4 62w4 63w3 | fd=63 fd=62
        13 10 10 sort: 0r2
        14 12 10 gzip: 0r3
        15 12 10 wc: 0r4 63w3";
    let expected = "yes tee sort gzip wc; 1:yes>tee 2:tee>sort 3:tee>gzip 4:tee>wc";
    from_each(text, &[11, 12, 13, 14, 15], expected);
}

#[test]
fn the_shell_that_keeps_a_process_substitution_open_is_no_reader_of_it() {
    let text = "
        10 1 10 bash: 62r2 63r1 | waits
        11 10 10 x: 1w1
        12 10 10 y: 1w2 63r1
        13 10 10 paste: 3r1 4r2 62r2 63r1 | fd=63 fd=62";
    from_each(text, &[10, 11, 12, 13], "x y paste; 1:x>paste 2:y>paste");
}

#[test]
fn a_shell_that_reads_process_substitutions_itself_is_a_member() {
    let text = "
        10 1 10 bash: 3r1 4r3 1w2
        11 10 10 x: 1w1
        12 10 10 y: 1w3
        13 1 10 sort: 0r2";
    from_each(text, &[10, 11, 12, 13], "x y bash sort; 1:x>bash 3:y>bash 2:bash>sort");
}

#[test]
fn a_descriptor_that_all_inherit_joins_only_who_had_it_first() {
    let text = "
        10 1 10 logger: 0r7
        20 1 20 sh: 9w7
        21 20 21 a: 1w1 9w7
        22 20 21 b: 0r1 9w7
        23 20 23 c: 9w7";
    from_each(text, &[21, 22], "a b; 1:a>b");
    from_each(text, &[10], "sh logger; 7:sh>logger");
}

#[test]
fn a_close_on_exec_descriptor_that_a_fork_inherited_joins_nobody() {
    let text = "
        10 1 10 python: 5r1c
        11 10 10 dump: 1w1
        12 10 10 forked: 5r1c";
    from_each(text, &[10, 11], "dump python; 1:dump>python");
}

#[test]
fn stderr_to_a_log_joins_no_strangers() {
    let text = "
        10 1 10 log: 0r9
        11 1 11 a: 1w1 2w9
        12 1 11 b: 0r1 2w9
        21 1 21 c: 1w2 2w9
        22 1 21 d: 0r2 2w9";
    from_each(text, &[11, 12], "a b; 1:a>b");
    from_each(text, &[21, 22], "c d; 2:c>d");
    from_each(text, &[10], "log;");
}

#[test]
fn stderr_sent_to_one_reader_on_purpose_is_a_pipeline() {
    from_each("10 1 10 noisy: 2w1\n11 1 10 grep: 0r1", &[10, 11], "noisy grep; 1:noisy>grep");
    from_each("10 1 10 python: 3r1c\n11 10 10 noisy: 2w1", &[11], "noisy;");
}

#[test]
fn stdout_and_stderr_in_one_pipe_are_stdout() {
    from_each("10 1 10 a: 1w1 2w1\n11 1 10 b: 0r1", &[10, 11], "a b; 1:a>b");
}

#[test]
fn two_jobs_of_a_terminal_that_is_logged_stay_apart() {
    let text = "
        10 1 10 bash: 1w9 2w9
        11 1 11 tee: 0r9
        21 10 21 a: 1w1 2w9
        22 10 21 b: 0r1 1w9 2w9
        31 10 31 c: 1w2 2w9
        32 10 31 d: 0r2 1w9 2w9";
    from_each(text, &[21, 22], "a b tee; 1:a>b 9:b>tee");
    from_each(text, &[31, 32], "c d tee; 2:c>d 9:d>tee");
}

#[test]
fn workers_that_share_an_end_are_one_pipeline_even_in_groups_of_their_own() {
    let text = "
        10 1 10 find: 1w1
        11 1 10 parallel: 0r1 1w2
        12 11 12 w: 1w2
        13 11 13 w: 1w2
        14 1 10 sort: 0r2
        20 1 20 daemon: 1w2";
    let expected = "find parallel w w sort; 1:find>parallel 2:parallel,w,w>sort";
    from_each(text, &[10, 11, 12, 13, 14], expected);
}

#[test]
fn several_readers_of_one_pipe_are_one_pipeline() {
    let text = "
        10 1 10 gen: 1w1
        11 1 10 sh: 0r1 | waits calls=400/0
        12 11 10 w: 0r1 1w2
        13 11 10 w: 0r1 1w2
        14 1 10 sink: 0r2";
    from_each(text, &[10, 11, 12, 14], "gen sh w w sink; 1:gen>sh,w,w 2:w,w>sink");
}

#[test]
fn a_shell_that_only_waits_is_a_wrapper() {
    let text = "
        10 1 10 x: 1w1
        11 1 10 sh: 0r1 1w3 | waits calls=11/0
        12 11 10 a: 0r1 1w2 | calls=10/0
        13 11 10 b: 0r2 1w3
        14 1 10 y: 0r3";
    from_each(text, &[10, 11, 12, 13, 14], "x a b y; 1:x>a 2:a>b 3:b>y");
    assert_eq!(wrappers(&pipeline_of(&scene(text), &[13])), ["sh"]);
}

/// Node's children have written a byte before they execute their program.
#[test]
fn a_shell_is_a_wrapper_although_it_wrote_a_byte_before_it_was_executed() {
    let text = "
        10 1 10 node: 5w1
        11 10 10 sh: 0r1 | waits calls=8/1
        12 11 10 cat: 0r1 | calls=75/65";
    from_each(text, &[10, 11, 12], "node cat; 1:node>cat");
    let subshell = text.replace("waits", "waits forked").replace("calls=8", "calls=0");
    from_each(&subshell, &[10, 11, 12], "node sh cat; 1:node>sh,cat");
}

#[test]
fn a_shell_that_reads_or_writes_between_its_commands_is_a_member() {
    // Two at one end: which of them moves the data can't be told from one look.
    let text = "
        10 1 10 x: 1w1
        11 1 10 bash: 0r1 1w2 | waits calls=90/7
        12 11 10 sleep: 0r1 1w2
        13 1 10 y: 0r2";
    let expected = "x bash sleep y; 1:x>bash,sleep 2:bash,sleep>y";
    from_each(text, &[10, 11, 12, 13], expected);
}

#[test]
fn a_loop_in_a_subshell_that_has_only_read_so_far_is_a_member() {
    let text = "
        10 1 10 x: 1w1
        11 1 10 bash: 0r1 1w2 | waits forked calls=2/0
        12 11 10 sleep: 0r1 1w2
        13 1 10 y: 0r2";
    from_each(text, &[13], "x bash sleep y; 1:x>bash,sleep 2:bash,sleep>y");
    from_each(&text.replace("calls=2", "calls=0"), &[13], "x sleep y; 1:x>sleep 2:sleep>y");
}

#[test]
fn without_leave_to_read_its_counters_a_shell_stays_a_member() {
    let text = "
        11 1 10 sh: 1w3 | waits
        13 11 10 b: 1w3
        14 1 10 y: 0r3";
    from_each(text, &[13, 14], "sh b y; 3:sh,b>y");
}

#[test]
fn who_captures_output_is_a_member_but_joins_no_strangers() {
    let text = "
        10 1 10 runner: 5r1c 6r2c
        11 10 10 a: 1w3
        12 10 10 b: 0r3 1w1
        21 10 10 c: 1w2";
    from_each(text, &[11, 12], "a b runner; 3:a>b 1:b>runner");
    from_each(text, &[21], "c runner; 2:c>runner");
    from_each(text, &[10], "a b c runner; 3:a>b 1:b>runner 2:c>runner");
    assert_eq!(
        shapes(&pipelines(&scene(text), 99)),
        ["a b runner; 3:a>b 1:b>runner", "c runner; 2:c>runner"]
    );
}

#[test]
fn a_supervisor_that_kept_an_end_which_it_handed_on_joins_no_strangers() {
    // Python's subprocess: p.stdout is gzip's stdin, and the parent did not close it.
    let text = "
        10 1 10 python: 5r1c 6r2c 7r3c
        11 10 10 dump: 1w1
        12 10 10 gzip: 0r1 1w2
        13 10 10 other: 1w3";
    from_each(text, &[11, 12], "dump gzip python; 1:dump>gzip,python 2:gzip>python");
    from_each(text, &[13], "other python; 3:other>python");
}

#[test]
fn a_script_that_pumps_from_one_child_to_the_next_passes_the_flow_on() {
    let text = "
        10 1 10 python: 5r1c 6w2c 1w3
        11 10 10 dump: 1w1
        12 10 10 gzip: 0r2
        13 1 10 ssh: 0r3";
    let expected = "dump python gzip ssh; 1:dump>python 2:python>gzip 3:python>ssh";
    from_each(text, &[10, 11, 12, 13], expected);
}

#[test]
fn an_editor_does_not_join_its_language_servers() {
    let text = "
        10 1 10 editor: 5w1c 6r2c 7w3c 8r4c 9r5c
        11 10 11 rust: 0r1 1w2
        12 10 12 clang: 0r3 1w4
        13 10 13 tool: 1w5";
    from_each(text, &[11], "editor rust; 1:editor>rust 2:rust>editor");
    from_each(text, &[13], "tool editor; 5:tool>editor");
}

#[test]
fn fifos_join_whoever_opened_them() {
    let text = "
        10 1 10 a: 3w1F
        11 1 11 b: 3w1F
        20 1 20 reader: 3r1F 1w2
        21 1 20 sort: 0r2";
    from_each(text, &[10, 11, 20, 21], "a b reader sort; 1:a,b>reader 2:reader>sort");
    let found = pipeline_of(&scene(text), &[10]);
    assert_eq!(found.pipeline.pipes[0].path.as_deref(), Some("/fifo1".as_ref()));
}

#[test]
fn a_fifo_that_a_shell_holds_open_for_its_commands_is_written_by_the_shell_alone() {
    let text = "
        10 1 10 sh: 3w1F
        11 10 10 cmd: 3w1F
        20 1 20 reader: 0r1F";
    from_each(text, &[10, 20], "sh reader; 1:sh>reader");
}

#[test]
fn a_cycle_is_ordered_and_ends() {
    let text = "
        10 1 10 a: 0r2 1w1
        11 1 10 b: 0r1 1w2 5w3
        12 1 10 c: 0r3";
    from_each(text, &[10, 11, 12], "a b c; 1:a>b 2:b>a 3:b>c");
}

#[test]
fn parents_in_a_loop_do_not_hang_the_search() {
    from_each("10 11 10 a: 1w1\n11 10 10 b: 0r1", &[10, 11], "a b; 1:a>b");
}

#[test]
fn only_the_named_processes_and_the_pipes_between_them() {
    let text = "
        10 1 10 log: 0r9
        11 1 11 a: 1w1 2w9
        12 1 11 b: 0r1 1w2 2w9
        13 1 11 c: 0r2";
    let table = scene(text).only(|process| [11, 12].contains(&process.pid));
    assert_eq!(shape(&pipeline_of(&table, &[11, 12])), "a b; 1:a>b");
    let table = scene(text).only(|process| [10, 11].contains(&process.pid));
    assert_eq!(shape(&pipeline_of(&table, &[10, 11])), "a log; 9:a>log");
}

#[test]
fn what_the_hidden_caller_hands_down_joins_nobody() {
    let text = "
        10 1 10 bash: 251w1
        11 10 10 pipeprof: 251w1
        12 11 10 sleep: 251w1
        20 1 20 harness: 250r1";
    assert_eq!(shape(&pipeline_of(&scene(text).hiding([11]), &[12])), "sleep;");
}

#[test]
fn a_process_without_pipes_is_a_pipeline_of_one() {
    let text = "10 1 10 cc:\n11 1 11 a: 1w1\n12 1 11 b: 0r1";
    from_each(text, &[10], "cc;");
    from_each(text, &[77], ";");
}

#[test]
fn the_tree_of_a_command_is_all_that_it_started() {
    let text = "
        9 1 9 python: 7r8c
        10 9 10 sh: 1w8 | waits
        11 10 10 a: 1w1
        12 10 10 b: 0r1 1w8
        13 10 10 lone:
        14 10 10 sh: | waits
        20 1 20 x: 1w7
        21 1 20 y: 0r7";
    let found = tree_of(&scene(text), 10);
    assert_eq!(shape(&found), "a b lone sh; 1:a>b");
    assert_eq!(found.wrappers.iter().map(|member| member.pid).collect::<Vec<_>>(), [10]);
    // Nobody knows what it read and wrote, so an end that it had may have been its own.
    assert!(found.handed_down.is_empty());
    for (calls, expected) in [("3/0", &[10][..]), ("3/2", &[]), ("400/0", &[])] {
        let text = text.replace("1w8 | waits", &format!("1w8 | waits calls={calls}"));
        let found = tree_of(&scene(&text), 10);
        let pids: Vec<i32> = found.handed_down.iter().map(|id| id.pid).collect();
        assert_eq!(pids, expected, "{calls}");
    }
}

#[test]
fn ls_shows_neither_itself_nor_its_pager() {
    let text = "
        10 1 10 bash:
        11 10 11 pipeprof: 1w1
        12 10 11 jq: 0r1 1w2
        13 10 11 less: 0r2
        21 1 21 a: 1w5
        22 1 21 b: 0r5";
    assert_eq!(shapes(&pipelines(&scene(text), 11)), ["a b; 5:a>b"]);
}

#[test]
fn ls_into_the_log_of_a_script_shows_the_pipelines_of_the_script() {
    let text = "
        11 1 10 script: 1w9 2w9
        12 1 10 tee: 0r9
        13 11 10 a: 1w1 2w9
        14 11 10 b: 0r1 1w9 2w9
        15 11 10 pipeprof: 1w9 2w9";
    let expected = "script a b tee; 9:script,b>tee 1:a>b";
    assert_eq!(shapes(&pipelines(&scene(text), 15)), [expected]);
}

#[test]
fn two_fifos_of_one_number_on_two_file_systems_are_two_pipes() {
    let mut processes = scene(
        "10 1 10 a: 1w70F
         11 1 10 b: 0r70F
         20 1 20 c: 1w70F
         21 1 20 d: 0r70F",
    )
    .processes()
    .to_vec();
    for descriptor in processes[2..].iter_mut().flat_map(|process| &mut process.descriptors) {
        descriptor.pipe.device = 99;
    }
    let table = ProcTable::new(processes, 0);
    assert_eq!(shape(&pipeline_of(&table, &[10])), "a b; 70:a>b");
    assert_eq!(shape(&pipeline_of(&table, &[21])), "c d; 70:c>d");
    let found = pipeline_of(&table, &[10, 20]).pipeline;
    let devices: Vec<u64> = found.pipes.iter().map(|pipe| pipe.key().device).collect();
    assert_eq!(devices, [13, 99]);
}

/// The tree of `root` in a scene, with processes that were seen before and have ended.
fn tree_with(text: &str, ended: &str, root: i32) -> String {
    let ended = scene(ended);
    let table = scene(text).with_ended(ended.processes().to_vec());
    shape(&tree_of(&table, root))
}

#[test]
fn who_has_ended_since_is_joined_with_who_comes_later() {
    let now = "
        10 1 10 sh: | waits
        13 10 10 c: 0r2";
    let ended = "
        11 10 10 a: 1w1
        12 10 10 b: 0r1 1w2";
    assert_eq!(tree_with(now, ended, 10), "a b c; 1:a>b 2:b>c");
    // Not waited for yet, it holds nothing any more.
    let zombie = |text: &str| {
        let processes = scene(text).processes().to_vec().into_iter();
        let gone = |mut process: Process| {
            process.ended = process.pid == 12;
            process
        };
        ProcTable::new(processes.map(gone).collect(), 0)
    };
    let table = zombie("10 1 10 sh: | waits\n 12 10 10 b:\n 13 10 10 c: 0r2");
    let table = table.with_ended(scene(ended).processes().to_vec());
    assert_eq!(shape(&tree_of(&table, 10)), "a b c; 1:a>b 2:b>c");
}

#[test]
fn who_has_its_pid_by_now_is_somebody_else() {
    let now = "
        10 1 10 sh: | waits
        12 10 10 c: 0r1";
    let mut before = scene("12 10 10 a: 1w1").processes()[0].clone();
    before.start_time_ticks = 3;
    let table = scene(now).with_ended([before]);
    assert_eq!(shape(&tree_of(&table, 10)), "c;");
}

#[test]
fn a_shell_between_two_forks_reads_nothing_of_what_has_ended() {
    // It keeps the read end for what it starts next.
    let ended = "11 10 10 a: 1w1";
    assert_eq!(tree_with("10 1 10 sh: 3r1", ended, 10), "sh a;");
    // But what it has as its input it reads.
    assert_eq!(tree_with("10 1 10 sh: 0r1", ended, 10), "a sh; 1:a>sh");
}

#[test]
fn what_is_remembered_of_a_shell_that_has_ended_takes_no_end_from_it() {
    // A loop that had read nothing yet when it was seen, and waited for its first child.
    let shell = "11 10 10 sh: 0r1 | waits calls=3/0";
    let rest = "12 10 10 yes: 1w1\n 13 11 10 sleep: 0r1";
    let found = |now: &str, ended: &str| {
        let table = scene(now).with_ended(scene(ended).processes().to_vec());
        let found = tree_of(&table, 10);
        (wrappers(&found).join(" "), found.handed_down.len())
    };
    let lives = found(&format!("10 1 10 sh: | waits\n{shell}\n{rest}"), "");
    assert_eq!(lives, ("sh sh".into(), 1));
    let ended = found("10 1 10 sh: | waits", &format!("{shell}\n{rest}"));
    assert_eq!(ended, ("sh sh".into(), 0));
}

#[test]
fn who_was_seen_right_after_its_birth_only_is_the_writer_that_nobody_else_is() {
    // `echo x | cat | wc`: the shell forks for `echo`, which has ended before it was seen again.
    let now = "10 1 10 sh: | waits";
    let born = "11 10 10 sh: 3r1 4w1 | forked";
    let rest = "
        12 10 10 cat: 0r1 1w2
        13 10 10 wc: 0r2";
    assert_eq!(tree_with(now, &format!("{born}{rest}"), 10), "sh cat wc; 1:sh>cat 2:cat>wc");
    // Between its forks the shell held the read end.
    assert_eq!(tree_with("10 1 10 sh: 3r1", born, 10), "sh sh;");
    // Two such, or another writer, and nobody knows.
    let two = format!("{born}\n14 10 10 sh: 3r1 4w1 | forked{rest}");
    assert_eq!(tree_with(now, &two, 10), "sh cat wc sh; 2:cat>wc");
    let other = format!("{born}\n14 10 10 yes: 1w1{rest}");
    assert_eq!(tree_with(now, &other, 10), "sh yes cat wc; 1:yes>cat 2:cat>wc");
    // One that lives is between two forks itself.
    assert_eq!(tree_with(&format!("{now}\n{born}"), rest, 10), "sh cat wc; 2:cat>wc");
}

#[test]
fn a_subshell_that_has_ended_is_no_member_where_its_children_had_its_ends() {
    let now = "
        10 1 10 sh: | waits
        14 10 10 d: 0r1";
    let ended = "
        11 10 10 sub: 1w1 | forked
        12 11 10 a: 1w1";
    assert_eq!(tree_with(now, ended, 10), "a d; 1:a>d");
}
