"""Constraint-guided neural architecture search in any PyTorch network."""

from cggd_nas import measure, penalties, spaces
from cggd_nas.blockwise import Replaced, replace_blocks
from cggd_nas.bounds import NoFeasibleArchitectureError
from cggd_nas.candidates import Candidate
from cggd_nas.choices import ChannelChoice, Choice, ChoiceModule, RepeatChoice
from cggd_nas.configured import configured
from cggd_nas.distillation import finetune
from cggd_nas.export import export_onnx, verify
from cggd_nas.extract import Architecture, extract
from cggd_nas.guide import TorchGuide
from cggd_nas.history import Epoch
from cggd_nas.lookup import LookupTable, measure_lookup
from cggd_nas.metrics import Costs
from cggd_nas.neighbours import grow
from cggd_nas.profile import profile
from cggd_nas.prunable import Report, prunable
from cggd_nas.recalibration import recalibrate, recalibrated
from cggd_nas.regressor import Regressor, fit_regressor
from cggd_nas.relaxations import Darts, GumbelSoftmax, Mixing, ProxylessTwoPath, Relaxation, UniformPath
from cggd_nas.result import NasResult
from cggd_nas.retrain import evaluate, retrain
from cggd_nas.search import search
from cggd_nas.slicing import Sliced
from cggd_nas.supernet import Supernet, collect

__all__ = [
    "Architecture",
    "Candidate",
    "ChannelChoice",
    "Choice",
    "ChoiceModule",
    "Costs",
    "Darts",
    "Epoch",
    "GumbelSoftmax",
    "LookupTable",
    "Mixing",
    "NasResult",
    "NoFeasibleArchitectureError",
    "ProxylessTwoPath",
    "Regressor",
    "Relaxation",
    "RepeatChoice",
    "Replaced",
    "Report",
    "Sliced",
    "Supernet",
    "TorchGuide",
    "UniformPath",
    "collect",
    "configured",
    "evaluate",
    "export_onnx",
    "extract",
    "finetune",
    "fit_regressor",
    "grow",
    "measure",
    "measure_lookup",
    "penalties",
    "profile",
    "prunable",
    "recalibrate",
    "recalibrated",
    "replace_blocks",
    "retrain",
    "search",
    "spaces",
    "verify",
]
