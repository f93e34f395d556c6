from __future__ import annotations

from collections.abc import Iterator

import pytest
from serving import Server, served, written


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A page on which two runs may compute and one may wait."""
    pytest.importorskip("gradio")
    with served(written(tmp_path_factory.mktemp("web") / "run"), "--concurrency", "2", "--queue", "1") as server:
        yield server
