/** The page for when there is no server, in the program's own window or in a browser. */
document.getElementById('again')?.addEventListener('click', () => {
  /** @type {any} */ (window).pywebview.api.start_again();
});
