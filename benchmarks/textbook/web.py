"""What a textbook has: Flask, a model of SQLAlchemy's ORM, commit, refresh, apply_async. No key, no limit, no outbox, no audit."""

import os
import uuid
from datetime import UTC, datetime

from flask import Flask, jsonify, request
from jobs import run
from sqlalchemy import JSON, DateTime, String, Text, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker


class Base(DeclarativeBase):
    pass


class Session(Base):
    __tablename__ = "textbook_sessions"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    query: Mapped[str] = mapped_column(Text)
    user_id: Mapped[str | None] = mapped_column(String(256))
    current_directory: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(32), default="initializing")
    data: Mapped[dict] = mapped_column(JSON, default=dict)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=lambda: datetime.now(UTC))
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=lambda: datetime.now(UTC))

    def to_dict(self):
        return {
            "session_id": str(self.id),
            "query": self.query,
            "user_id": self.user_id,
            "current_directory": self.current_directory,
            "status": self.status,
            "metadata": self.data,
            "created_at": self.created_at.isoformat(),
            "updated_at": self.updated_at.isoformat(),
        }


engine = create_engine(
    os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg2:"), pool_size=20, pool_pre_ping=True
)
sessions = sessionmaker(engine)
app = Flask(__name__)


@app.get("/health/live")
def live():
    return jsonify(status="alive")


@app.post("/api/v1/sessions")
def create():
    body = request.get_json()
    db = sessions()
    try:
        session = Session(
            query=body["query"],
            user_id=body.get("user_id"),
            current_directory=body.get("current_directory"),
            data=body.get("metadata", {}),
        )
        db.add(session)
        db.commit()
        db.refresh(session)
        run.apply_async(args=[str(session.id)])
        return jsonify(session.to_dict()), 201
    finally:
        db.close()
