"""An export that loses nothing: many executions in one file, through crashes, kills and full disks.

An edge room. It knows files: an NDJSON file with one line per id that only ever grows by whole
lines, a lock beside it, and tables (CSV, XLSX) made from it in one step. Refuses to know HTTP, paces
and retries: results come from a session. Refuses to know terminals, too:
``hilos export`` is somebody else's.
"""

from hilos_async.export._contacts import ContactProgress, ContactsReport, export_contacts
from hilos_async.export._export import ExportProgress, ExportReport, export_executions
from hilos_async.export._files import ExportError
from hilos_async.export._records import ContactRecord, ErrorNote, Record

__all__ = [
    "ContactProgress",
    "ContactRecord",
    "ContactsReport",
    "ErrorNote",
    "ExportError",
    "ExportProgress",
    "ExportReport",
    "Record",
    "export_contacts",
    "export_executions",
]
