// Browsers run no modules of a page that is opened as a file, so this script says what to do. It is none.
if (location.protocol === "file:") {
  const error = document.getElementById("error");
  error.textContent = "This page was opened as a file. Serve its folder (python -m http.server) and open http://localhost:8000.";
  error.hidden = false;
}
