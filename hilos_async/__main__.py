"""``python -m hilos_async`` is the ``hilos`` command."""

from hilos_async.cli import main

raise SystemExit(main())
