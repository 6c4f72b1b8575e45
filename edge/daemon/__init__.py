"""The service: decides about clips (pure), runs capture and inference as processes, keeps the ledger, reports."""
