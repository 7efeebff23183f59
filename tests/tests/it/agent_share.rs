//! Several agents over one batch: at once, as shards in any mix, and killed at random moments.

use std::{process::Command, time::Duration};

use e2e::{
    agent_jobs::{Made, example_pages},
    batch_dir::{BatchDir, parts},
    campaign::{Campaign, Told, run},
    harness::{Agent, Control, OllamaSim, Process, agent_run_json},
    ollama_double::MODEL,
    ollama_sim::sheets::sheets,
    soak,
};

#[tokio::test(flavor = "multi_thread")]
async fn agents_at_once_share_a_batch_and_do_no_part_twice() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let simulator = OllamaSim::start(&root.join("sim"), &["--slots", "4", "--service-ms", "5"]).unwrap();
    let batch = BatchDir::new(root, "shared").unwrap();
    let pages = sheets(120).await.unwrap();
    batch.write_parts(&parts(&pages, 10)).await.unwrap();
    let start = |agent: usize| {
        let configure = |command: &mut Command| {
            command.args(["run", "--json", "--batch-id", "shared", "--root"]).arg(root);
            command.args(["--engine", "ollama", "--model", MODEL, "--ollama-url", &simulator.url]);
        };
        Process::start("dgx-agent", configure, &root.join(format!("agent-{agent}.log"))).unwrap()
    };
    let mut agents: Vec<_> = (0..3).map(start).collect();
    for agent in &mut agents {
        assert!(agent.wait().unwrap().success(), "{}", agent.log());
        assert!(agent.log().contains("\"complete\": true"), "{}", agent.log());
    }
    let ledger = batch.ledger().await.unwrap();
    assert_eq!(ledger.len(), pages.len());
    // One of each agent is to see that the model is there.
    let asked = simulator.stats("").await.unwrap().now.requests;
    let spent: i32 = ledger.iter().map(|row| row.attempts).sum();
    assert!(asked <= u64::from(spent.unsigned_abs()) + 3, "{asked} requests for {spent} in the ledger");
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_in_any_mix_make_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    let pages = example_pages().await.unwrap();
    // By n: some twice, some never alone, the whole batch beside them; all at once.
    let mixes: [&[&str]; 4] = [
        &[""],
        &["0/2", "1/2", "1/2", "0/2"],
        &["0/3", "1/3", "2/3", "0/7", ""],
        &["4/5", "3/5", "2/5", "1/5", "0/5", "0/1"],
    ];
    let mut whole = None;
    for (number, mix) in mixes.into_iter().enumerate() {
        let root = folder.path().join(number.to_string());
        std::fs::create_dir_all(&root).unwrap();
        let batch = BatchDir::new(&root, "mix").unwrap();
        batch.write_parts(&parts(&pages[..36], 4)).await.unwrap();
        let start = |shard: &&str| {
            let configure = |command: &mut Command| {
                command.args(["run", "--batch-id", "mix", "--root"]).arg(&root);
                if !shard.is_empty() {
                    command.args(["--shard", shard]);
                }
            };
            let log = root.join(format!("shard-{}.log", shard.replace('/', "-")));
            Process::start("dgx-agent", configure, &log).unwrap()
        };
        let mut shards: Vec<_> = mix.iter().map(start).collect();
        for shard in &mut shards {
            assert!(shard.wait().unwrap().success(), "{}", shard.log());
        }
        // The last to end may have looked before another's last commit was there.
        assert_eq!(agent_run_json(&root, "mix", &["--shard", "0/9"]).unwrap()["complete"], true, "{mix:?}");
        let made = Made::read(root.to_str().unwrap(), "mix").await.unwrap();
        let made = (made.suggestions, made.ledger);
        assert_eq!(&made, whole.get_or_insert_with(|| made.clone()), "{mix:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_that_are_submitted_to_agents_make_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    let pages = example_pages().await.unwrap();
    // One agent each, all at once: one with the whole batch, halves, halves twice, and what overlaps.
    let mixes: [&[&str]; 4] =
        [&[""], &["0/2", "1/2"], &["0/2", "1/2", "1/2", "0/2"], &["2/3", "0/2", "1/3", ""]];
    let mut whole = None;
    for (number, mix) in mixes.into_iter().enumerate() {
        let root = folder.path().join(number.to_string());
        let batch = BatchDir::new(&root, "mix").unwrap();
        batch.write_parts(&parts(&pages[..36], 4)).await.unwrap();
        let root = root.to_str().unwrap();
        let agents: Vec<_> = (0..mix.len())
            .map(|agent| {
                Agent::start(root, &folder.path().join(format!("{number}-{agent}")), &[], &[]).unwrap()
            })
            .collect();
        let submit = |agent: &Agent, shard: &str| {
            let control = Control::new(folder.path(), root).with_agent(&agent.url);
            let shard = if shard.is_empty() { vec![] } else { vec!["--shard", shard] };
            control
                .run(&[&["preannotate", "submit", "mix", "--watch", "--json"], &shard[..]].concat())
                .unwrap()
        };
        std::thread::scope(|scope| {
            let runs = mix.iter().zip(&agents).map(|(shard, agent)| scope.spawn(|| submit(agent, shard)));
            for (run, shard) in runs.collect::<Vec<_>>().into_iter().zip(mix) {
                let done = run.join().unwrap();
                assert_eq!(done.code, Some(0), "{shard}: {}", done.stderr);
                let job: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
                assert_eq!((&job["state"], &job["shard"]), (&"complete".into(), &(*shard).into()));
                assert_eq!(job["parts_committed"], job["parts"]);
            }
        });
        let made = Made::read(root, "mix").await.unwrap();
        assert!(made.manifest.is_some(), "whoever was the last found all: {mix:?}");
        let made = (made.suggestions, made.ledger);
        assert_eq!(&made, whole.get_or_insert_with(|| made.clone()), "{mix:?}");
        // The same again finds its job; another shard takes its place, and is done already; 7/7 is none.
        let again = submit(&agents[0], mix[0]);
        assert_eq!(again.code, Some(0), "{}", again.stderr);
        let other = submit(&agents[0], "3/7");
        assert_eq!(other.code, Some(0), "{}", other.stderr);
        let other: serde_json::Value = serde_json::from_str(&other.stdout).unwrap();
        assert_eq!((&other["state"], &other["shard"]), (&"complete".into(), &"3/7".into()));
        assert_eq!(Made::read(root, "mix").await.unwrap().suggestions, made.0, "nothing is done twice");
        assert_eq!(submit(&agents[0], "7/7").code, Some(2));
    }
}

/// One agent, and three that share the batch.
async fn campaigns(campaign: Campaign) -> Vec<Told> {
    let mut all = Vec::new();
    for agents in [1, 3] {
        let told = run(Campaign { agents, ..campaign }).await.unwrap();
        assert!(told.kills > 0, "the batch was too short: {told:?}");
        assert!(told.repeated <= told.allowed, "{agents} agents: {told:?}");
        all.push(told);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_random_moments_change_no_row_and_repeat_little() {
    let pause = Duration::from_millis(500);
    campaigns(Campaign { agents: 1, kills: 5, pages: 300, part_pages: 15, service_ms: 20, pause }).await;
}

/// For `make soak`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make soak"]
async fn two_hundred_kills() {
    let (kills, pause) = (soak("KILLS", 200), Duration::from_millis(1200));
    let (pages, part_pages) = (60 * kills, 250);
    let all = campaigns(Campaign { agents: 1, kills, pages, part_pages, service_ms: 50, pause }).await;
    println!("kills at random moments; every row as in an undisturbed run\n{}", Told::HEAD);
    for told in all {
        println!("{told}");
        assert_eq!(told.kills, kills, "the batch was too short: {told:?}");
    }
}
