"""For tests on a CPU only: lets SGLang 0.4.3 serve where there is no GPU.

SGLang 0.4.3 takes its norms, its activation and its rotary embedding from vLLM 0.7.2, whose compiled operators are for
CUDA. Each of these layers has a version in plain PyTorch beside it, slow and right: here vLLM is made to take that one.
Python imports a module of this name by itself when it starts and finds it on PYTHONPATH.
"""

import importlib.util
import sys

LAYERS = "vllm.model_executor.custom_op"


class InPyTorch:
    """Finds the module of vLLM's layers as anyone would, and changes it when it is loaded."""

    def find_spec(self, name, path=None, target=None):
        if name != LAYERS:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def load_and_change(module):
            load(module)
            module.CustomOp.dispatch_forward = lambda layer: layer.forward_native

        spec.loader.exec_module = load_and_change
        return spec


sys.meta_path.insert(0, InPyTorch())
