"""solver.prototxt files: read, written, refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from converters import CaffeFormatError, NetError, parse_prototxt
from converters.formats.solver import POLICIES, TYPES, SolverSpec, format_solver, parse_solver, read_solver
from converters.passes import filter_phase
from fcn_port.training import CaffeSolver
from fcn_port.training.rates import learning_rate
from parity_tests import solving
from parity_tests.goldens import GOLDEN, formats

HEAVY = 'base_lr: 1e-10 lr_policy: "fixed" momentum: 0.99 weight_decay: 0.0005 '


@pytest.mark.parametrize("path", sorted((GOLDEN / "solver").glob("solver-????*.prototxt")), ids=lambda p: p.stem)
def test_what_is_written_reads_back(path: Path) -> None:
    if path.name.endswith(".train.prototxt"):
        with pytest.raises(CaffeFormatError, match="this is a net, not a solver"):
            read_solver(path)
        return
    spec = read_solver(path)
    assert spec.net_file() == path.with_suffix("").with_suffix(".train.prototxt")
    assert parse_solver(format_solver(spec), path=path) == spec


def test_every_field_is_written(tmp_path: Path) -> None:
    spec = SolverSpec(
        0.5, "multistep", "Nesterov", gamma=0.5, power=0.25, stepsize=7, stepvalue=(3, 5), momentum=0.5, momentum2=0.25,
        rms_decay=0.5, delta=0.25, weight_decay=0.125, regularization_type="L1", clip_gradients=2.0, iter_size=3,
        max_iter=10, display=2, average_loss=4, snapshot=5, snapshot_prefix="a/b", snapshot_format="HDF5",
        test_interval=6, random_seed=1337, train_net="train.prototxt", test_nets=("val.prototxt",),
        weights=("a.caffemodel, b.caffemodel", "c.caffemodel"),
    )  # fmt: skip
    assert parse_solver(format_solver(spec)) == spec


def test_weights_are_files_beside_the_solver(tmp_path: Path) -> None:
    """solver.cpp, LoadNetWeights: several in a text, parted by commas and trimmed, and several texts."""
    for name in "abc":
        (tmp_path / name).touch()
    spec = parse_solver(HEAVY + 'weights: "a , b" weights: "c"', path=tmp_path / "solver.prototxt")
    assert spec.weights_files() == tuple(tmp_path / name for name in "abc")
    assert parse_solver(HEAVY).weights_files() == ()
    with pytest.raises(FileNotFoundError, match="names it as its weights"):
        parse_solver(HEAVY + 'weights: "d"', path=tmp_path / "solver.prototxt").weights_files()
    with pytest.raises(NetError, match="names no file"):
        parse_solver(HEAVY + 'weights: "a,"').weights_files()


def test_defaults_are_caffes() -> None:
    spec = parse_solver('base_lr: 1 lr_policy: "fixed" net: "net.prototxt"')
    assert spec == SolverSpec(1.0, train_net="net.prototxt")


@pytest.mark.parametrize("kind", TYPES)
def test_the_old_enum_of_types(kind: str) -> None:
    assert parse_solver(f'base_lr: 1 lr_policy: "fixed" solver_type: {kind.upper()}').type == kind


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('lr_policy: "fixed"', "base_lr is missing"),
        ("base_lr: 1", "lr_policy is missing"),
        ('base_lr: 1 lr_policy: "cosine"', "no policy 'cosine'"),
        (HEAVY + 'type: "LARS"', "no solver 'LARS'"),
        (HEAVY + 'type: "AdaGrad"', "momentum cannot be used with AdaGrad"),
        (HEAVY + 'type: "RMSProp"', "momentum cannot be used with RMSProp"),
        (HEAVY + "gama: 0.1", "line 1.*no field 'gama'.*\n.*did you mean 'gamma'"),
        ('base_lr: 1 lr_policy: "exp" gamma: -1', "gamma is -1"),
        ('base_lr: 1 lr_policy: "fixed" type: "RMSProp" rms_decay: 1', "rms_decay is 1.0"),
        (HEAVY + "iter_size: 0", "iter_size is 0"),
        ('base_lr: 1 lr_policy: "fixed" type: "Adam" momentum: 1', "momentum is 1.0 .*Adam divides by 1 - momentum"),
        ('base_lr: 1 lr_policy: "fixed" type: "Adam" momentum2: 1.5', "momentum2 1.5; Adam"),
        (HEAVY + 'regularization_type: "L3"', "'L3' is neither L2 nor L1"),
        (HEAVY + "type: 'SGD' solver_type: ADAM", "both type and the old solver_type"),
        (HEAVY + "net: 'a' train_net: 'b'", "net and train_net"),
        ('base_lr: 1 lr_policy: "step" gamma: 0.1', "stepsize is 0"),
        ('base_lr: 1 lr_policy: "poly"', "max_iter"),
        ("base_lr 1", "expected"),
        (formats("fcn8s-mini.prototxt").read_text(), "this is a net"),
    ],
)
def test_what_caffe_refuses_is_refused(text: str, said: str) -> None:
    with pytest.raises(CaffeFormatError, match=f"solver.prototxt.*{said}"):
        parse_solver(text, path="solver.prototxt")


@pytest.mark.parametrize(
    "text",
    [
        'lr_policy: "poly" max_iter: 9 gamma: -1',
        'lr_policy: "fixed" gamma: -1 rms_decay: 1 regularization_type: "none"',
    ],
)
def test_fields_that_nothing_reads_may_hold_anything(text: str) -> None:
    """As in Caffe, whose solvers check what they use: training with these ran there (parity_tests/oracle)."""
    assert rates(f"base_lr: 2 {text}", 1) == [2]


@pytest.mark.parametrize("value", ["true", "false"])
def test_gradients_in_snapshots_change_no_training(value: str) -> None:
    """snapshot_diff: Caffe writes them beside the weights (net.cpp, ToProto), and trains the same."""
    assert parse_solver(f"{HEAVY} snapshot_diff: {value}") == parse_solver(HEAVY)


def test_a_missing_net_is_named(tmp_path: Path) -> None:
    (tmp_path / "solver.prototxt").write_text(HEAVY + 'train_net: "train.prototxt"')
    with pytest.raises(FileNotFoundError, match=r"train\.prototxt"):
        read_solver(tmp_path / "solver.prototxt").net_file()
    with pytest.raises(CaffeFormatError, match="names no net"):
        parse_solver(HEAVY).net_file()


def rates(text: str, count: int) -> list[float]:
    spec, step, found = parse_solver(text), 0, []
    for iteration in range(count):
        rate, step = learning_rate(spec, iteration, current_step=step)
        found.append(rate)
    return found


def test_multistep_moves_on_by_one_step_in_each_update() -> None:
    """Two equal stepvalues, or one that was passed, take their step in the update after (sgd_solver.cpp)."""
    found = rates('base_lr: 1 lr_policy: "multistep" gamma: 0.5 stepvalue: [2, 2, 1, 5]', 7)
    assert found == [1, 1, 0.5, 0.25, 0.125, 0.0625, 0.0625]


def test_the_policies_by_hand() -> None:
    assert rates('base_lr: 2 lr_policy: "step" gamma: 0.5 stepsize: 2', 5) == [2, 2, 1, 1, 0.5]
    assert rates('base_lr: 2 lr_policy: "exp" gamma: 0.5', 3) == [2, 1, 0.5]
    assert rates('base_lr: 2 lr_policy: "inv" gamma: 1 power: 1', 4) == [2, 1, 2 / 3, 0.5]
    assert rates('base_lr: 2 lr_policy: "poly" power: 2 max_iter: 4', 5) == [2, 1.125, 0.5, 0.125, 0]
    sigmoid = rates('base_lr: 2 lr_policy: "sigmoid" gamma: 1000 stepsize: 1', 3)
    assert sigmoid == [0, 1, 2]


def test_a_rate_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="'poly' gives no learning rate at iteration 5"):
        rates('base_lr: 2 lr_policy: "poly" power: 0.5 max_iter: 4', 6)
    with pytest.raises(ValueError, match="'exp' gives no learning rate at iteration 2"):
        rates('base_lr: 2 lr_policy: "exp" gamma: 1e30', 40)  # a double, but no float32, which Caffe's weights are
    weight = torch.nn.Parameter(torch.ones(1))
    solver = CaffeSolver([weight], parse_solver('base_lr: 2 lr_policy: "exp" gamma: 1e30', path="solver.prototxt"))
    with pytest.raises(CaffeFormatError, match=r"^solver\.prototxt: .*at iteration 2"):
        for _ in range(3):
            solver.step()
    with pytest.raises(CaffeFormatError, match="'fixed' gives no learning rate at iteration 0: nan"):
        CaffeSolver([weight], parse_solver('base_lr: nan lr_policy: "fixed"'))


def test_the_cases_of_the_zoo_name_every_type_and_policy() -> None:
    specs = [parse_solver(case.solver) for case in solving.CASES.values()]
    assert {spec.type for spec in specs} == set(TYPES)
    assert {spec.lr_policy for spec in specs} == set(POLICIES)


NET_INSIDE = """
  layer { name: "data" type: "Data" top: "data" top: "label" }
  layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 2 kernel_size: 1 hole: 2 } }
  layer { name: "extra" type: "ReLU" bottom: "conv" top: "conv" include { stage: "deep" } bn_param { eps: 0.5 } }
  layer { name: "loss" type: "SoftmaxWithLoss" bottom: "conv" bottom: "label" top: "loss" }
"""  # noqa: E501


@pytest.mark.parametrize("name", ["net_param", "train_net_param"])
def test_a_net_that_is_written_in_the_solver(name: str) -> None:
    """solver.cpp, InitTrainNet: one of four fields gives the net; train_state is merged into its state."""
    states = 'train_state { stage: "deep" } test_state { stage: "x" }'
    text = f'base_lr: 1 lr_policy: "fixed" {states}\n{name} {{{NET_INSIDE}}}'
    spec = parse_solver(text)
    net, expected = spec.read_net(), parse_prototxt("\n" + NET_INSIDE)
    assert net.layers == expected.layers, "lines are the solver's"
    assert [field.name for layer in net.layers for field in layer.extra] == ["convolution_param.hole", "bn_param"]
    kept = [layer.name for layer in filter_phase(net, phase="TRAIN").layers]
    assert kept == ["data", "conv", "extra", "loss"], "the stage of train_state holds"
    assert [layer.name for layer in filter_phase(expected, phase="TRAIN").layers] == ["data", "conv", "loss"]
    again = format_solver(parse_solver(format_solver(spec)))
    assert again == format_solver(spec) and "hole: 2" in again and 'stage: "deep"' in again


def test_a_solver_trains_one_net() -> None:
    solver = 'base_lr: 1 lr_policy: "fixed"'
    with pytest.raises(NetError, match="net and net_param: a solver trains one net"):
        parse_solver(f'{solver} net: "a.prototxt" net_param {{ {NET_INSIDE} }}')
    with pytest.raises(NetError, match="train_state has the phase TEST"):
        parse_solver(f"{solver} train_state {{ phase: TEST }} net_param {{ {NET_INSIDE} }}")
    with pytest.raises(CaffeFormatError):
        parse_solver(f"{solver} net_param {{ layer {{ name: 7 }} }}")


@pytest.mark.parametrize(("phase", "other"), [("TRAIN", "TEST"), ("TEST", "TRAIN")])
def test_a_net_s_own_state_of_the_other_phase_is_refused(phase: str, other: str) -> None:
    """solver.cpp, InitTrainNet and InitTestNets: it counts unless the solver says another (900 tried in Caffe)."""
    text = 'base_lr: 1 lr_policy: "fixed" test_iter: 1 test_interval: 1 net_param {{ state {{ phase: {} }} {} }}'
    fits, refused = (parse_solver(text.format(each, NET_INSIDE)) for each in (phase, other))
    for spec, wrong in ((fits, False), (refused, True)):
        read = spec.read_net if phase == "TRAIN" else spec.read_test_nets
        if not wrong:
            assert read()
        else:
            with pytest.raises(NetError, match=f"own state has the phase {other}"):
                read()
            said = f"{text.format(other, NET_INSIDE)} {phase.lower()}_state {{ phase: {phase} }}"
            again = parse_solver(format_solver(parse_solver(said)))
            assert again.read_net() if phase == "TRAIN" else again.read_test_nets()


TESTED, OWN = f"test_net_param {{ {NET_INSIDE} }}", f"net_param {{ {NET_INSIDE} }}"


@pytest.mark.parametrize(
    ("settings", "tests"),
    {
        f"train_net_param {{ {NET_INSIDE} }} test_interval: 1": 0,
        f"{OWN} test_iter: 1 test_iter: 2 test_interval: 1": 2,
        f"{OWN} {TESTED} test_iter: 1 test_iter: 2 test_interval: 1": 2,
        f"{OWN} {TESTED} test_iter: 1 test_interval: 1 test_state {{ stage: 'a' }}": 1,
        f"train_net_param {{ {NET_INSIDE} }} {TESTED} {TESTED} test_iter: 1 test_iter: 2 test_interval: 1": 2,
        f"{OWN} {TESTED} test_interval: 1": "0 test_iter for 1 test nets; test_iter is missing",
        f"train_net_param {{ {NET_INSIDE} }} {TESTED} test_iter: 1 test_iter: 2 test_interval: 1": "2 test_iter for 1",
        f"{OWN} test_iter: 1 test_interval: 1 test_state {{ }} test_state {{ }}": "2 test_state for 1 tests",
        f"{OWN} test_iter: 1": "test_interval is 0",
    }.items(),
)
def test_each_test_has_a_net_and_a_number(settings: str, tests: int | str) -> None:
    """solver.cpp, InitTestNets: more test_iter than nets are for `net` or `net_param` alone."""
    spec = parse_solver(f'base_lr: 1 lr_policy: "fixed" {settings}')
    if isinstance(tests, int):
        assert len(spec.read_test_nets()) == tests
    else:
        with pytest.raises(NetError, match=tests):
            spec.read_test_nets()
