"""The net that people run, of the net that was trained: no data, loss or accuracy layers, Inputs instead.

Needs a net as it was read. Ensures that every layer is one of the phase, without rules, that all bottoms are made, and
that what brings data in is an Input layer with shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, count

from ..errors import NetError
from ..net.layer import LayerSpec, Shape
from ..net.spec import NetSpec, refuse_no_spec
from ..wording import first_of, shape_text
from .filter_phase import Phase, filter_phase, stages_of
from .input_size import fit_inputs
from .inputs import OWN, Weights, constant_notes, input_of, is_data, learned_channels, with_input_shapes
from .supervision import Supervision, find_supervision, has_weights
from .work_out import work_out

STOCHASTIC = 2
"""PoolingParameter's number of it."""


def to_deploy(
    spec: NetSpec,
    *,
    input_shapes: Mapping[str, Shape] | None = None,
    blobs: Weights | None = None,
    phase: Phase = "TEST",
    level: int = 0,
    stages: Sequence[str] = (),
) -> NetSpec:
    """The net that people run, of the net that was trained; one that is deployable already comes back equal.

    Filters by phase and drops the rules; a net that was saved while it was trained, and has no data for another phase,
    is taken as it was trained. Takes out losses, accuracies, Silence and HDF5Output, what follows them, and what feeds
    nothing else, such as labels; the predictions that they judge become outputs. Layers without bottoms, but for Input
    and Parameter, become Input layers of the same name, with those of their tops that are still needed. Names of blobs
    stay.

    `input_shapes`, by blob, are the shapes of the inputs. For one that is not given, and that neither an Input nor a
    MemoryData or DummyData layer fixes, the batch is 1; the channels are those of the first convolution on its way, if
    `blobs` (weights by layer) has it, else 1 for grey images, else those of `assume_channels`, else 3; the size is what
    the data layer's fields say (data_fields.py), else what the weights of InnerProducts fit (`fit_inputs`), else
    500x500 or what fits the net better (`work_out`). Notes say what was assumed, and `assumed` for which inputs.
    """
    refuse_no_spec(spec)
    whole = spec
    spec = _with_source(_open(spec, phase, level, stages))
    if phase == "TEST":
        _refuse_training_apart(spec)
    layers: list[LayerSpec] = []
    assumed: dict[str, str] = {}
    sized: list[str] = []
    constants: list[str] = []
    learned = learned_channels(spec, blobs or {})
    supervision = find_supervision(spec, set(spec.outputs))
    for layer, tops in _needed(spec, supervision):
        if _is_source(layer):
            constants.extend(constant_notes(layer, tops))
            found = input_of(layer, tops, learned)
            layer = found.layer
            assumed.update(found.notes)
            sized.extend(found.sized)
        layers.append(_without_rules(layer))
    if not layers and whole.layers:
        raise _nothing_left(whole, spec)
    deploy = replace(spec, layers=tuple(layers))
    if input_shapes:
        deploy = with_input_shapes(deploy, input_shapes)
        assumed = {name: note for name, note in assumed.items() if name not in input_shapes}
    deploy, notes = _worked_out(deploy, assumed, sized, blobs or {})
    told = (*supervision.notes, *_losses(spec, layers))
    return replace(deploy, notes=(*spec.notes, *told, *notes, *constants), assumed=tuple(assumed))


def _refuse_training_apart(spec: NetSpec) -> None:
    """Raise NetError for a layer that is of training by its own word, among others that are not.

    A layer without a phase has that of its net (net.cpp, Init). A net that Caffe saved while it trained has TRAIN in
    every layer, and is meant to be run all the same.
    """
    layers = [layer for layer in spec.layers if layer.bottoms]
    if all(_says_training(layer) for layer in layers):
        return
    for layer in layers:
        if _says_training(layer) and _trains_otherwise(layer):
            raise NetError(
                "phase is TRAIN in a net that is run, and here all layers have the net's",
                path=spec.path,
                where=layer.place,
                hint="take it out; Caffe would compute this one layer as in training",
            )


def _says_training(layer: LayerSpec) -> bool:
    return bool(layer.message.HasField("phase") and not layer.message.phase)


def _trains_otherwise(layer: LayerSpec) -> bool:
    """True for a layer that computes something else in training."""
    if layer.type == "BatchNorm":
        return not layer.message.batch_norm_param.HasField("use_global_stats")
    stochastic = layer.type == "Pooling" and layer.message.pooling_param.pool == STOCHASTIC
    return stochastic or layer.type in ("BN", "Dropout", "GuidedDropout", "SpatialDropout")


def _worked_out(
    deploy: NetSpec, assumed: Mapping[str, str], sized: Sequence[str], blobs: Weights
) -> tuple[NetSpec, Sequence[str]]:
    """The net with its assumed inputs in shapes that its weights, or else its layers, can have; and the notes."""
    if not assumed:
        return deploy, ()
    deploy, fitted = fit_inputs(deploy, list(assumed), blobs)
    if fitted is not None:
        return deploy, (fitted,)
    before = {name: shape for name, shape in deploy.inputs.items() if name in assumed}
    after = work_out(deploy, before, sized=[name for name in sized if name in assumed])
    notes = dict(assumed)
    for name, shape in after.items():
        if shape != before[name]:
            why = f"which fits the net better than {shape_text(before[name])}"
            notes[name] = f"the net does not give the size of input '{name}'; {shape_text(shape)} is assumed, {why}"
    changed = {name: shape for name, shape in after.items() if shape != before[name]}
    return (with_input_shapes(deploy, changed) if changed else deploy), tuple(notes.values())


def _nothing_left(whole: NetSpec, spec: NetSpec) -> NetError:
    stages = ", ".join(stages_of(whole))
    problem = "nothing is left of the net: there is no output that its layers compute"
    if spec.layers:
        return NetError(problem, path=whole.path, hint="all of it only feeds losses or labels; is it a net to run?")
    named = f"; its rules name the stages {stages}" if stages else ""
    return NetError(
        "no layer of the net is for this phase, level and stage" + named,
        path=whole.path,
        hint="choose others with --phase, --level and --stage",
    )


def _open(spec: NetSpec, phase: Phase, level: int, stages: Sequence[str]) -> NetSpec:
    """The layers of the phase and stages, or of others where only they are whole; a note says so.

    Those of training, for what Caffe saves is filtered already; those of one more stage, for nets that are several in
    one (DIGITS).
    """
    found = filter_phase(spec, phase=phase, level=level, stages=stages)
    if _is_whole(found):
        return found
    trained = filter_phase(spec, phase="TRAIN", level=level, stages=stages)
    if _is_whole(trained):
        return trained
    more = [] if stages else stages_of(spec)
    for stage in sorted(more, key=lambda name: (name != "deploy", "test" not in name, "train" in name)):
        for other in (phase, "TRAIN"):
            staged = filter_phase(spec, phase=other, level=level, stages=[stage])
            if _is_whole(staged):
                note = f"taken as for stage '{stage}', for without a stage the net is not whole; --stage takes another"
                return replace(staged, notes=(*staged.notes, note))
    _name_what_is_missing(spec, found)
    return found


def _with_source(spec: NetSpec) -> NetSpec:
    """The net with a data layer before it where it has none at all: DIGITS writes its nets so, and adds its own.

    Where it has one, the data layer is for blobs alone whose shape their reader says, such as Faster R-CNN's im_info.
    """
    made = {top for layer in spec.layers for top in layer.tops if top not in layer.bottoms}
    missing = tuple(dict.fromkeys(each for layer in spec.layers for each in layer.bottoms if each not in made))
    brought = any(not layer.bottoms and layer.type not in OWN for layer in spec.layers)
    said = learned_channels(spec, {}).shapes if brought and missing else {}
    if not missing or (brought and not said.keys() >= set(missing)):
        return spec
    names = " and ".join(f"'{name}'" for name in missing)
    what = "an input is missing" if brought else "the net has no layer that brings data in"
    note = f"{what}; {names}, which no layer makes, are taken as its inputs"
    source = LayerSpec(name=_new_name(spec), type="Data", tops=missing)
    return replace(spec, layers=(source, *spec.layers), notes=(*spec.notes, note))


def _new_name(spec: NetSpec) -> str:
    names = {layer.name for layer in spec.layers}
    return next(name for name in chain(("data",), (f"data{i}" for i in count())) if name not in names)


def _name_what_is_missing(spec: NetSpec, found: NetSpec) -> None:
    """Raise NetError where a bottom is made only by a layer that the phase, the level or the stages leave out."""
    made: set[str] = set()
    for layer in found.layers:
        for bottom in layer.bottoms:
            makers = [] if bottom in made else [maker for maker in spec.layers if bottom in maker.tops]
            if makers and not any(maker in found.layers for maker in makers):
                rules = "; ".join(dict.fromkeys(_rules(maker) for maker in makers))
                raise NetError(
                    f"its bottom '{bottom}' is made by {makers[0].place}, which is not in this net ({rules})",
                    path=spec.path,
                    where=layer.place,
                    hint="choose another with --phase, --stage or --level (phase, stages and level of to_deploy)",
                )
        made.update(layer.tops)


def _rules(layer: LayerSpec) -> str:
    """The rules of a layer in words: "include stage train"."""
    said = []
    for kind, rules in (("include", layer.message.include), ("exclude", layer.message.exclude)):
        said += [f"{kind} {' '.join(str(rule).replace(chr(34), '').split())}" for rule in rules]
    return ", ".join(said) or "enabled for another"


def _is_whole(spec: NetSpec) -> bool:
    """True where every bottom is made by a layer before, and there is a layer."""
    made: set[str] = set()
    for layer in spec.layers:
        if not made.issuperset(layer.bottoms):
            return False
        made.update(layer.tops)
    return bool(made)


def _is_source(layer: LayerSpec) -> bool:
    return is_data(layer) or layer.type == "Input"


_Needed = list[tuple[LayerSpec, Sequence[str]]]


def _needed(spec: NetSpec, supervision: Supervision) -> _Needed:
    """The layers that the net's predictions and outputs need, each with those of its tops that they need."""
    outputs, learned = set(spec.outputs), _learned(spec)
    wanted = _predictions([spec.layers[index] for index in supervision.sinks], supervision, learned)
    found = _needed_for(spec, supervision, wanted, outputs)
    if any(not _is_source(layer) for layer, _ in found):
        return found
    # Nothing but what Silence swallows: it keeps the logs quiet, and the net is run for its bottoms (CASENet).
    made = {top for layer in spec.layers if not _is_source(layer) for top in layer.tops}
    hushed = [layer for layer in spec.layers if layer.type == "Silence"]
    kept = {bottom for layer in hushed for bottom in layer.bottoms if bottom in (learned or made)} - supervision.lost
    return _needed_for(spec, supervision, wanted | kept, outputs) if kept else found


def _needed_for(spec: NetSpec, supervision: Supervision, blobs: set[str], outputs: set[str]) -> _Needed:
    wanted, sinks = set(blobs), set(supervision.sinks)
    needed: dict[int, tuple[LayerSpec, Sequence[str]]] = {}
    for index in reversed(range(len(spec.layers))):
        layer = spec.layers[index]
        tops = [top for top in layer.tops if top in wanted or (top in outputs and not is_data(layer))]
        if tops and index not in sinks:
            bottoms = tuple(supervision.renamed.get(bottom, bottom) for bottom in layer.bottoms)
            needed[index] = layer if bottoms == layer.bottoms else replace(layer, bottoms=bottoms), tops
            wanted.update(bottoms)
    # A top that nobody needs of a layer that is needed: without its Silence it would become an output of the net.
    loose = {top for layer, _ in needed.values() if not _is_source(layer) for top in layer.tops} - wanted - outputs
    for index in sinks:
        layer = spec.layers[index]
        silenced = tuple(bottom for bottom in layer.bottoms if bottom in loose)
        if layer.type == "Silence" and silenced:
            needed[index] = replace(layer, bottoms=silenced), ()
    return [needed[index] for index in sorted(needed)]


def _learned(spec: NetSpec) -> set[str]:
    """The blobs that depend on the net's weights."""
    learned: set[str] = set()
    for layer in spec.layers:
        if has_weights(layer) or learned.intersection(layer.bottoms):
            learned.update(layer.tops)
    return learned


def _predictions(sinks: Sequence[LayerSpec], supervision: Supervision, learned: set[str]) -> set[str]:
    """The learned blobs that losses and accuracies are given; the rest is labels. Without weights, the first bottom."""
    found: set[str] = set()
    first: set[str] = set()
    for layer in sinks:
        if layer.type != "Silence":
            renamed = [supervision.renamed.get(bottom, bottom) for bottom in layer.bottoms]
            judged = [bottom for bottom in renamed if bottom not in supervision.lost]
            found.update(learned.intersection(judged))
            first.update(judged[:1])
    return found or first


def _losses(spec: NetSpec, deploy: Sequence[LayerSpec]) -> Iterator[str]:
    """A note on layers with weights that are left out."""
    kept = {layer.name for layer in deploy}
    gone = [
        layer.name for layer in spec.layers if layer.name not in kept and not _is_source(layer) and has_weights(layer)
    ]
    if gone:
        names = first_of([f"'{name}'" for name in gone], 3)
        yield f"left out with their weights, as no prediction or output needs them: layers {names}"


def _without_rules(layer: LayerSpec) -> LayerSpec:
    if not layer.message.include and not layer.message.exclude:
        return layer
    message = layer.to_message()
    message.ClearField("include")
    message.ClearField("exclude")
    extra = tuple(field for field in layer.extra if not field.name.startswith(("include[", "exclude[")))
    return LayerSpec.from_message(message, extra=extra, line=layer.line)
