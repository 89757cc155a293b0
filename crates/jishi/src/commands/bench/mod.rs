//! `jishi bench`: Jishi's own workloads. Each is a file here; bench/kernels.py compares them with PyTorch.

mod csv;
mod decode;
mod figures;
mod gpt;
mod mlp;
mod peer;
mod products;
mod resnet;
mod training;

use jishi_kernels::Precision;
use jishi_recipe::Problem;
use serde_json::{Value, json};

use crate::cli::{BenchArgs, BenchPrecision};
use crate::error::CliError;

/// A workload and the number types that it can compute in.
struct Workload {
    name: &'static str,
    precisions: &'static [BenchPrecision],
}

const BOTH: &[BenchPrecision] = &[BenchPrecision::F32, BenchPrecision::Bf16];
const ALL: &[BenchPrecision] = &[BenchPrecision::F32, BenchPrecision::Bf16, BenchPrecision::Int8];
const WORKLOADS: [Workload; 7] = [
    Workload { name: "gpt-s", precisions: BOTH },
    Workload { name: "gpt-m", precisions: BOTH },
    Workload { name: "resnet18", precisions: BOTH },
    Workload { name: "mlp", precisions: &[BenchPrecision::F32] },
    Workload { name: "decode", precisions: ALL },
    Workload { name: "gemm", precisions: BOTH },
    Workload { name: "csv", precisions: &[BenchPrecision::F32] },
];

/// Runs the command.
pub fn run(args: &BenchArgs, json: bool) -> Result<(), CliError> {
    for name in &args.names {
        if !WORKLOADS.iter().any(|w| w.name == *name) {
            let known: Vec<&str> = WORKLOADS.iter().map(|w| w.name).collect();
            let problem = Problem::new(format!("no workload is called `{name}`"));
            return Err(CliError::bad(problem.help(format!("workloads: {}", known.join(", ")))));
        }
    }
    let wanted = |w: &Workload| {
        if args.names.is_empty() { w.name != "csv" } else { args.names.iter().any(|n| n == w.name) }
    };
    let mut runs = Vec::new();
    for workload in WORKLOADS.iter().filter(|w| wanted(w)) {
        let chosen = workload.precisions.iter().filter(|p| args.precision.is_none_or(|asked| asked == **p));
        runs.extend(chosen.map(|precision| (workload.name, *precision)));
    }
    if runs.is_empty() {
        let problem = Problem::new("no workload that was named computes in this precision");
        return Err(CliError::bad(problem.help("leave out `--precision` to run all that there are")));
    }
    let workloads = match runs[..] {
        [(name, precision)] => vec![one(args, name, precision)?],
        // A process of its own for each: peak memory is the process's.
        _ => runs.iter().map(|run| apart(args, *run)).collect::<Result<_, _>>()?,
    };
    let report = json!({ "machine": figures::machine(), "workloads": workloads });
    if json {
        println!("{report}");
    } else {
        println!("{report:#}");
    }
    Ok(())
}

fn one(args: &BenchArgs, name: &str, precision: BenchPrecision) -> Result<Value, CliError> {
    let computed = match precision {
        BenchPrecision::Bf16 => Precision::Bf16,
        BenchPrecision::F32 | BenchPrecision::Int8 => Precision::F32,
    };
    match name {
        "gpt-s" => gpt::run(name, &gpt::small(), computed, args.profile),
        "gpt-m" => gpt::run(name, &gpt::medium(), computed, args.profile),
        "resnet18" => resnet::run(name, computed, args.profile),
        "mlp" => mlp::run(args.profile),
        "decode" => decode::run(precision),
        "gemm" => Ok(products::run(computed)),
        _ => {
            let Some(path) = &args.csv else {
                let problem = Problem::new("the workload `csv` needs a file");
                return Err(CliError::bad(
                    problem.help("name it with `--csv PATH`; bench/make_csv.py makes one"),
                ));
            };
            csv::run(path, &args.target)
        }
    }
}

/// One workload in a process of its own.
fn apart(args: &BenchArgs, (name, precision): (&str, BenchPrecision)) -> Result<Value, CliError> {
    let failed = |e: String| CliError::Failed(format!("the workload {name} did not run: {e}"));
    let program = std::env::current_exe().map_err(|e| failed(e.to_string()))?;
    let mut command = std::process::Command::new(program);
    command.args(["bench", name, "--json", "--precision", precision.name(), "--target", &args.target]);
    if args.profile {
        command.arg("--profile");
    }
    if let Some(path) = &args.csv {
        command.arg("--csv").arg(path);
    }
    let output =
        command.stderr(std::process::Stdio::inherit()).output().map_err(|e| failed(e.to_string()))?;
    let mut report: Value = serde_json::from_slice(&output.stdout).map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        return Err(failed(output.status.to_string()));
    }
    Ok(report["workloads"][0].take())
}
