"""Runs the tests on the store's host only; the other one is the hub's."""


def pytest_collection_modifyitems(items):
    items[:] = [item for item in items if "model-hub" not in item.nodeid]
